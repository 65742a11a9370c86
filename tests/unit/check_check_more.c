/* check_check_more.c - vhd_check: parents, platforms, floods of damage */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "wrong.h"

#define EPOCH 946684800

static struct wrong_image *m;

static void test_parents(void)
{
	struct stat st;
	struct vhd_check_options all = { .parents_too = true };

	wrong_make_child(m);
	wrong_save(m, "c.vhd");
	unlink(wrong_path("p.vhd"));
	wrong_look("c.vhd", (struct vhd_check_options){ 0 });
	wrong_expect("no parent", VHD_E_PARENT_MISSING, VHD_DAMAGE, false);

	wrong_make_dynamic(m);
	m->bytes[70] ^= 1;
	wrong_copy_footer(m);
	wrong_save(m, "p.vhd");
	wrong_look("c.vhd", (struct vhd_check_options){ 0 });
	wrong_expect("another parent", VHD_E_PARENT_ID, VHD_DAMAGE, false);
	wrong_look("c.vhd", (struct vhd_check_options){ .ignore_parent_id = true });
	wrong_expect("another parent, ignored", 0, 0, false);

	wrong_make_dynamic(m);
	wrong_put32(wrong_entry(m, 1), 5000);
	wrong_save(m, "p.vhd");
	wrong_look("c.vhd", (struct vhd_check_options){ 0 });
	wrong_expect("parent damaged, not looked at", 0, 0, false);
	wrong_look("c.vhd", all);
	wrong_expect("parent damaged", VHD_E_BAT_ENTRY, VHD_DAMAGE, true);

	wrong_make_dynamic(m);
	wrong_save(m, "p.vhd");
	wrong_look("c.vhd", all);
	wrong_expect("parent touched", VHD_E_HEADER_FIELD, VHD_WARNING, false);
	all.ignore_timestamps = true;
	wrong_look("c.vhd", all);
	wrong_expect("parent touched, ignored", 0, 0, false);
	all.ignore_timestamps = false;
	if (stat(wrong_path("p.vhd"), &st))
		exit(1);
	wrong_make_child(m);
	wrong_put32(m->bytes + 512 + 56, (uint32_t)(st.st_mtime - EPOCH));
	wrong_sum_header(m);
	wrong_save(m, "c.vhd");
	wrong_look("c.vhd", all);
	wrong_expect("sound chain", 0, 0, false);

	/* a child that is its own parent */
	wrong_make_child(m);
	memcpy(m->bytes + 512 + 40, m->bytes + 68, 16);
	wrong_sum_header(m);
	wrong_save(m, "p.vhd");
	wrong_look("p.vhd", all);
	wrong_expect("cycle", VHD_E_CYCLE, VHD_DAMAGE, true);
	wrong_look("p.vhd", (struct vhd_check_options){ 0 });
	wrong_expect("cycle, seen from one image", VHD_E_CYCLE, VHD_DAMAGE, true);
}

static void test_targets(void)
{
	struct vhd_check_options azure = { .target = VHD_FOR_AZURE };

	wrong_make_fixed(m);
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", azure);
	wrong_expect("azure: 1 MiB", VHD_E_AZURE, VHD_DAMAGE, false);
	/* 20 MiB, sparse */
	wrong_make_footer(m->bytes, 2, 20u << 20);
	m->length = 512;
	wrong_save(m, "x.vhd");
	{
		int fd = open(wrong_path("x.vhd"), O_RDWR);

		if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, m->bytes, 512, 20 << 20) != 512)
			exit(1);
		close(fd);
	}
	wrong_look("x.vhd", azure);
	wrong_expect("azure: 20 MiB", 0, 0, false);
	wrong_make_dynamic(m);
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", azure);
	wrong_expect("azure: dynamic", VHD_E_AZURE, VHD_DAMAGE, true);
	wrong_look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_HYPERV });
	wrong_expect("hyperv: dynamic", 0, 0, false);
	wrong_look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_XEN });
	wrong_expect("xen: dynamic", 0, 0, false);
	wrong_look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_VPC });
	wrong_expect("vpc: size is no product", VHD_E_AZURE, VHD_DAMAGE, false);
	wrong_put32(m->bytes + 56, 0xffff10ff);
	wrong_copy_footer(m);
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_XEN });
	wrong_expect("xen: geometry", VHD_E_AZURE, VHD_DAMAGE, false);
	wrong_make_dynamic(m);
	wrong_put32(m->bytes + 512 + 28, 9);
	wrong_sum_header(m);
	wrong_save(m, "x.vhd");
	wrong_look("x.vhd", (struct vhd_check_options){ .target = VHD_FOR_HYPERV });
	wrong_expect("hyperv: 9 entries", VHD_E_AZURE, VHD_DAMAGE, false);
}

/* A table of a million entries, all wrong: told in few findings, in bounded time. */
static void test_flood(void)
{
	struct timespec begin, now;
	uint8_t *bat = calloc(1044480, 4);
	double seconds;
	int fd;

	wrong_make_dynamic(m);
	wrong_put64(m->bytes + 48, 2190433320960);
	wrong_put32(m->bytes + 512 + 28, 1044480);
	wrong_sum_header(m);
	m->end = 8u << 20;
	wrong_sum_footer(m->bytes);
	fd = open(wrong_path("x.vhd"), O_CREAT | O_TRUNC | O_RDWR, 0600);
	if (!bat || fd < 0 || pwrite(fd, m->bytes, 1536, 0) != 1536 ||
	    pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 ||
	    pwrite(fd, m->bytes, 512, m->end) != 512)
		exit(1);
	wrong_look("x.vhd", (struct vhd_check_options){ 0 });
	wrong_expect("a table of zeros", VHD_E_BAT_ENTRY, VHD_DAMAGE, true);
	/* and one that is all right: 2040 GiB, every block allocated */
	for (uint32_t i = 0; i < 1044480; i++)
		wrong_put32(bat + 4 * i, 8170 + 4097 * i);
	m->end = (8170 + 4097ull * 1044480) * 512;
	if (pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 || ftruncate(fd, 0x2000))
		exit(1);
	if (pwrite(fd, bat, 1044480 * 4, 1536) != 1044480 * 4 ||
	    pwrite(fd, m->bytes, 512, (off_t)m->end) != 512)
		exit(1);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	wrong_look("x.vhd", (struct vhd_check_options){ 0 });
	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
	wrong_expect("2040 GiB, all allocated", 0, 0, false);
	wrong_rows++;
	if (wrong_found.result.allocated_blocks != 1044480)
		wrong_fail("2040 GiB, all allocated", "blocks are counted wrongly");
	wrong_rows++;
	if (seconds > 2 && !getenv("SLOW"))
		wrong_fail("2040 GiB, all allocated", "took more than 2 seconds");
	printf("check_check_more: 2040 GiB with all blocks checked in %.3f s\n", seconds);
	close(fd);
	free(bat);
}

static void test_absent(void)
{
	wrong_look("absent.vhd", (struct vhd_check_options){ 0 });
	wrong_rows++;
	if (wrong_found.rc != -ENOENT)
		wrong_fail("absent file", "ENOENT");
}

int main(void)
{
	m = wrong_begin();
	if (!m)
		return 1;
	test_parents();
	test_targets();
	test_flood();
	test_absent();
	return wrong_end(m, "check_check_more");
}
