/* check_xmsnap - xmsnap: disks of a domain's XML, addresses, names of frozen nodes */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tapdisk/xmsnap/address.h"
#include "tapdisk/xmsnap/domain.h"
#include "tapdisk/xmsnap/dump.h"
#include "tapdisk/xmsnap/member.h"
#include "tests/lib/suite.h"

static struct domain domain;
static struct vhd_error err;

static int parse(const char *xml)
{
	return domain_parse(xml, strlen(xml), &domain, &err);
}

/* The only disk of a domain with these elements. */
static const struct domain_disk *one(const char *disk)
{
	char xml[4096];

	snprintf(xml, sizeof(xml), "<domain><devices>%s</devices></domain>", disk);
	ck_assert_int_eq(parse(xml), 0);
	ck_assert_uint_eq(domain.count, 1);
	return domain.disks;
}

START_TEST(sources)
{
	const struct domain_disk *d;

	d = one("<disk type='file' device='disk'><source file='/a&amp;b/&#x41;.vhd'/>"
		"<target dev='vda'/></disk>");
	ck_assert_str_eq(d->path, "/a&b/A.vhd");
	ck_assert_str_eq(d->target, "vda");
	ck_assert(!d->read_only && !d->shareable && !d->transient && !d->other);
	domain_release(&domain);
	/* the device is a disk unless told otherwise; a backing store is no source */
	d = one("<disk type='block'><backingStore type='file'><source file='/no'/></backingStore>"
		"<source dev='/dev/x'/><readonly/><shareable/><transient/></disk>");
	ck_assert_str_eq(d->path, "/dev/x");
	ck_assert_str_eq(d->target, "");
	ck_assert(d->read_only && d->shareable && d->transient);
	domain_release(&domain);
	d = one("<disk type='network'><source protocol='nbd' name='e'>"
		"<host transport='unix' socket='/s'/></source></disk>");
	ck_assert_str_eq(d->socket, "/s");
	ck_assert_str_eq(d->export, "e");
	ck_assert_ptr_null(d->path);
	domain_release(&domain);
	d = one("<disk type='network'><source protocol='nbd'><host name='::1' port='7'/></source>"
		"</disk>");
	ck_assert_str_eq(d->host, "[::1]:7");
	ck_assert_str_eq(d->export, "");
	domain_release(&domain);
	d = one("<disk type='network'><source protocol='nbd'><host name='h'/></source></disk>");
	ck_assert_str_eq(d->host, "h:10809");
	domain_release(&domain);
}
END_TEST

START_TEST(other_sources)
{
	static const char *const disks[][2] = {
		{ "<disk type='network'><source protocol='rbd' name='x'/></disk>", "rbd" },
		{ "<disk type='volume'><source pool='p' volume='v'/></disk>", "volume" },
		{ "<disk type='file' device='lun'/>", "not told" },
		{ "<disk/>", "unknown" },
		{ "<disk type='network'><source protocol='nbd'/></disk>", "not told" },
		{ "<disk type='network'><source protocol='nbd'><host transport='rdma' name='h'/>"
		  "</source></disk>",
		  "rdma" },
	};

	for (unsigned k = 0; k < sizeof(disks) / sizeof(disks[0]); k++) {
		ck_assert_str_eq(one(disks[k][0])->other, disks[k][1]);
		ck_assert_str_eq(domain_disk_source(domain.disks), disks[k][1]);
		domain_release(&domain);
	}
}
END_TEST

START_TEST(which_are_disks)
{
	ck_assert_int_eq(parse("<domain><name>n</name><disk type='file'/><devices>"
			       "<disk type='file' device='cdrom'><source file='/c'/></disk>"
			       "<disk type='file' device='floppy'><source file='/f'/></disk>"
			       "<interface/><disk type='file'><source file='/1'/></disk>"
			       "<disk type='file'><source file='/2'/></disk></devices></domain>"),
			 0);
	ck_assert_uint_eq(domain.count, 2);
	ck_assert_str_eq(domain.name, "n");
	ck_assert_str_eq(domain.disks[0].path, "/1");
	ck_assert_str_eq(domain.disks[1].path, "/2");
	domain_release(&domain);
}
END_TEST

START_TEST(no_domains)
{
	static const char *const texts[] = {
		"",
		"<a>",
		"<a/>",
		"<domain/>",
		"<domain><devices/></domain>",
		"<domain><devices><disk type='file'>",
		"<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain><devices><disk type='file'>"
		"<source file='/1'/></disk></devices></domain>",
		"<!DOCTYPE domain [<!ENTITY e SYSTEM "
		"'file:///etc/passwd'>]><domain><name>&e;</name>"
		"<devices><disk type='file'><source file='/1'/></disk></devices></domain>",
		"<!DOCTYPE d [<!ENTITY a '/1'>]><domain><devices><disk type='file'>"
		"<source file='&a;'/></disk></devices></domain>",
	};

	for (unsigned k = 0; k < sizeof(texts) / sizeof(texts[0]); k++) {
		ck_assert_int_eq(parse(texts[k]), -VHD_E_ARGUMENT);
		ck_assert_ptr_null(domain.disks);
	}
	ck_assert_int_eq(domain_parse("<domain>", DOMAIN_XML_MAX + 1, &domain, &err),
			 -VHD_E_ARGUMENT);
}
END_TEST

START_TEST(file_of_historic_call)
{
	ck_assert_int_eq(domain_of_file("x.vhd", &domain, &err), 0);
	ck_assert_uint_eq(domain.count, 1);
	ck_assert_str_eq(domain.disks[0].path, "x.vhd");
	domain_release(&domain);
}
END_TEST

START_TEST(addresses)
{
	ck_assert(address_same("nowhere.invalid:1", "nowhere.invalid:1"));
	ck_assert(address_same("127.0.0.1:10809", "localhost:10809"));
	ck_assert(address_same("127.0.0.1:10809", ":10809"));
	ck_assert(address_same("127.0.0.1:10809", "0.0.0.0:10809"));
	ck_assert(!address_same("127.0.0.1:10809", "127.0.0.1:10810"));
	ck_assert(!address_same("127.0.0.1:10809", "0.0.0.0:10810"));
	/* a documentation address: not one of this machine */
	ck_assert(!address_same("192.0.2.1:10809", "0.0.0.0:10809"));
	ck_assert(!address_same("127.0.0.1:10809", "127.0.0.2:10809"));
	ck_assert(!address_same("x", "y"));
	ck_assert(!address_same("x:", "y:"));
}
END_TEST

/* ── in a directory ── */

static char dir[] = "/tmp/check-xmsnap.XXXXXX";

static void make(const char *name, const char *content, size_t length)
{
	FILE *f = fopen(name, "w");

	ck_assert_ptr_nonnull(f);
	for (size_t k = 0; k < length; k += strlen(content))
		fputs(content, f);
	fclose(f);
}

static void enter(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	domain = (struct domain){ .name = NULL };
}

static void leave(void)
{
	static const char *const names[] = { "virsh", "xml", "d.vhd", "d.n.vhd", "d", "d.m.vhd" };

	for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++)
		unlink(names[k]);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}

static int name_it(struct member *m, const char *leaf, const char *name)
{
	*m = (struct member){ .asked = false };
	snprintf(m->at.leaf, sizeof(m->at.leaf), "%s/%s", dir, leaf);
	return member_name(m, name, &err);
}

START_TEST(names)
{
	struct member m;
	char want[PATH_MAX];

	enter();
	make("d.vhd", "x", 1);
	make("d", "x", 1);
	ck_assert_int_eq(name_it(&m, "d.vhd", "n"), 0);
	snprintf(want, sizeof(want), "%s/d.n.vhd", dir);
	ck_assert_str_eq(m.base, want);
	ck_assert_ptr_nonnull(strstr(m.temp, "/d.n.new-"));
	ck_assert_int_eq(name_it(&m, "d", "n"), 0);
	ck_assert_str_eq(m.base, want);
	make("d.n.vhd", "x", 1);
	ck_assert_int_eq(name_it(&m, "d.vhd", "n"), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, "give another --name"));
	/* what a killed xmsnap leaves is told from a snapshot */
	ck_assert_int_eq(link("d.vhd", "d.m.vhd"), 0);
	ck_assert_int_eq(name_it(&m, "d.vhd", "m"), -EEXIST);
	ck_assert_ptr_nonnull(strstr(err.text, "remove that name"));
	leave();
}
END_TEST

START_TEST(file_too_large)
{
	char *xml = NULL;
	size_t length = 0;

	enter();
	make("xml", "0123456789abcdef", DOMAIN_XML_MAX);
	ck_assert_int_eq(dump_file("xml", &xml, &length, &err), 0);
	ck_assert_uint_eq(length, DOMAIN_XML_MAX);
	free(xml);
	make("xml", "0123456789abcdef", DOMAIN_XML_MAX + 1);
	ck_assert_int_eq(dump_file("xml", &xml, &length, &err), -VHD_E_ARGUMENT);
	ck_assert_int_eq(dump_file("none", &xml, &length, &err), -ENOENT);
	leave();
}
END_TEST

static int virsh(const char *script, const char *vm, char **xml)
{
	size_t length = 0;

	*xml = NULL;
	unlink("virsh");
	if (script) {
		make("virsh", script, 1);
		ck_assert_int_eq(chmod("virsh", 0700), 0);
	}
	return dump_virsh(vm, 1000, xml, &length, &err);
}

START_TEST(asking_virsh)
{
	char path[PATH_MAX], *xml;

	enter();
	snprintf(path, sizeof(path), "%s:/usr/bin:/bin", dir);
	setenv("PATH", path, 1);
	ck_assert_int_eq(virsh("#!/bin/sh\nprintf '%s,' \"$@\"\n", "--a b; $(x)", &xml), 0);
	ck_assert_int_eq(strncmp(xml, "dumpxml,--,--a b; $(x),", 23), 0);
	free(xml);
	ck_assert_int_eq(virsh("#!/bin/sh\nexit 1\n", "v", &xml), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "status 1"));
	ck_assert_int_eq(virsh("#!/bin/sh\nexec sleep 20\n", "v", &xml), -ETIMEDOUT);
	ck_assert_int_eq(virsh("#!/bin/sh\nexec yes\n", "v", &xml), -VHD_E_ARGUMENT);
	ck_assert_ptr_nonnull(strstr(err.text, "larger than"));
	setenv("PATH", dir, 1);
	ck_assert_int_eq(virsh(NULL, "v", &xml), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "there is no virsh"));
	leave();
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		sources,   other_sources, which_are_disks, no_domains,	 file_of_historic_call,
		addresses, names,	  file_too_large,  asking_virsh, NULL,
	};

	return suite_run("xmsnap", tests);
}
