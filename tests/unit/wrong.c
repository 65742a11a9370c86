/* wrong.c - images made byte by byte, to be damaged and looked at by vhd_check */
#include "wrong.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[] = "/tmp/check_check.XXXXXX";

struct wrong_found wrong_found;
unsigned wrong_failures, wrong_rows;

struct wrong_image *wrong_begin(void)
{
	return mkdtemp(directory) ? calloc(1, sizeof(struct wrong_image)) : NULL;
}

int wrong_end(struct wrong_image *m, const char *name)
{
	unlink(wrong_path("x.vhd"));
	unlink(wrong_path("p.vhd"));
	unlink(wrong_path("c.vhd"));
	rmdir(directory);
	free(m);
	printf("%s: %u rows, %u failures\n", name, wrong_rows, wrong_failures);
	return wrong_failures != 0;
}

/* ── making images ── */

void wrong_put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

void wrong_put64(uint8_t *p, uint64_t v)
{
	wrong_put32(p, (uint32_t)(v >> 32));
	wrong_put32(p + 4, (uint32_t)v);
}

static void sum(uint8_t *p, size_t length, size_t field)
{
	uint32_t total = 0;

	wrong_put32(p + field, 0);
	for (size_t i = 0; i < length; i++)
		total += p[i];
	wrong_put32(p + field, ~total);
}

void wrong_sum_footer(uint8_t *p)
{
	sum(p, 512, 64);
}

void wrong_sum_header(struct wrong_image *m)
{
	sum(m->bytes + 512, 1024, 36);
}

void wrong_make_footer(uint8_t *p, uint32_t type, uint64_t size)
{
	memset(p, 0, 512);
	memcpy(p, "conectix", 8);
	wrong_put32(p + 8, 2);
	wrong_put32(p + 12, 0x10000);
	wrong_put64(p + 16, type == 2 ? UINT64_MAX : 512);
	wrong_put32(p + 24, 0x2d733670);
	memcpy(p + 28, "win ", 4);
	wrong_put32(p + 32, 0xa0000);
	memcpy(p + 36, "Wi2k", 4);
	wrong_put64(p + 40, size);
	wrong_put64(p + 48, size);
	wrong_put32(p + 56, 0x01e10411);
	wrong_put32(p + 60, type);
	for (uint8_t i = 0; i < 16; i++)
		p[68 + i] = (uint8_t)(0x11 * i);
	wrong_sum_footer(p);
}

/* Both footers anew, after a change to the one at 0. */
void wrong_copy_footer(struct wrong_image *m)
{
	wrong_sum_footer(m->bytes);
	memcpy(m->bytes + m->end, m->bytes, 512);
}

uint8_t *wrong_entry(struct wrong_image *m, unsigned block)
{
	return m->bytes + 1536 + 4 * block;
}

/* 16 MiB in 2 MiB blocks; block 0 at sector 4, its sectors 0 and 1 written. */
void wrong_make_dynamic(struct wrong_image *m)
{
	uint8_t *header = m->bytes + 512;

	memset(m->bytes, 0, WRONG_ROOM);
	m->end = 2048 + 512 + WRONG_BLOCK;
	m->length = m->end + 512;
	wrong_make_footer(m->bytes, 3, WRONG_SIZE);
	memcpy(m->bytes + m->end, m->bytes, 512);
	memcpy(header, "cxsparse", 8);
	wrong_put64(header + 8, UINT64_MAX);
	wrong_put64(header + 16, 1536);
	wrong_put32(header + 24, 0x10000);
	wrong_put32(header + 28, WRONG_SIZE / WRONG_BLOCK);
	wrong_put32(header + 32, WRONG_BLOCK);
	wrong_sum_header(m);
	memset(wrong_entry(m, 0), 0xff, 512);
	wrong_put32(wrong_entry(m, 0), 4);
	m->bytes[2048] = 0xc0;
	memset(m->bytes + 2560, 0x11, 512);
	memset(m->bytes + 3072, 0x22, 512);
}

/* The same with a batmap: header at 2048, map at 2560; blocks 0 and 1 from sector 7 on, all
 * of block 0 written, one sector of block 1. */
void wrong_sum_batmap(struct wrong_image *m)
{
	sum(m->bytes + 2560, 512, 512);
	memcpy(m->bytes + 2048 + 24, m->bytes + 3072, 4);
	memset(m->bytes + 3072, 0, 4);
}

void wrong_make_tap(struct wrong_image *m)
{
	wrong_make_dynamic(m);
	memset(m->bytes + 2048, 0, WRONG_ROOM - 2048);
	memcpy(m->bytes + 28, "tap\0", 4);
	wrong_put32(m->bytes + 32, 0x10003);
	m->end = (7 + 2 * 4104) * 512u;
	m->length = m->end + 512;
	wrong_copy_footer(m);
	memcpy(m->bytes + 2048, "tdbatmap", 8);
	wrong_put64(m->bytes + 2056, 2560);
	wrong_put32(m->bytes + 2064, 1);
	wrong_put32(m->bytes + 2068, 0x10002);
	wrong_put32(wrong_entry(m, 0), 7);
	wrong_put32(wrong_entry(m, 1), 7 + 4104);
	memset(m->bytes + 7 * 512, 0xff, 512);
	memset(m->bytes + 8 * 512, 0x41, WRONG_BLOCK);
	m->bytes[(7 + 4104) * 512] = 0x80;
	m->bytes[(8 + 4104) * 512] = 0x42;
	m->bytes[2560] = 0x80;
	wrong_sum_batmap(m);
}

void wrong_make_fixed(struct wrong_image *m)
{
	memset(m->bytes, 0, WRONG_ROOM);
	m->end = 1u << 20;
	m->length = m->end + 512;
	wrong_make_footer(m->bytes + m->end, 2, 1u << 20);
}

/* A child of "p.vhd" by W2ru locator; nothing of its own. */
void wrong_make_child(struct wrong_image *m)
{
	static const char name[] = ".\\p.vhd";
	uint8_t *header = m->bytes + 512;

	wrong_make_dynamic(m);
	memset(m->bytes + 2048, 0, WRONG_ROOM - 2048);
	wrong_put32(wrong_entry(m, 0), UINT32_MAX);
	memcpy(header + 40, m->bytes + 68, 16); /* the parent's id */
	memcpy(header + 576, "W2ru", 4);
	wrong_put32(header + 580, 512);
	wrong_put32(header + 584, 2 * (sizeof(name) - 1));
	wrong_put64(header + 592, 2048);
	for (size_t i = 0; i + 1 < sizeof(name); i++)
		m->bytes[2048 + 2 * i] = (uint8_t)name[i];
	wrong_sum_header(m);
	wrong_put32(m->bytes + 60, 4);
	m->bytes[68] = 0xcc;
	m->end = 2560;
	m->length = m->end + 512;
	wrong_copy_footer(m);
}

const char *wrong_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

void wrong_save(const struct wrong_image *m, const char *name)
{
	int fd = open(wrong_path(name), O_CREAT | O_TRUNC | O_WRONLY, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)m->length) ||
	    pwrite(fd, m->bytes, m->length, 0) != (ssize_t)m->length) {
		perror(wrong_path(name));
		exit(1);
	}
	close(fd);
}

/* ── looking ── */

static void keep(void *arg, const struct vhd_finding *f)
{
	struct wrong_found *to = arg;

	if (to->count == WRONG_FINDINGS)
		return;
	to->list[to->count].code = -f->code;
	to->list[to->count].severity = f->severity;
	to->list[to->count].has = f->has;
	to->list[to->count].block = f->block;
	to->list[to->count].offset = f->offset;
	to->list[to->count].repairable = f->repairable;
	snprintf(to->list[to->count].text, sizeof(to->list[0].text), "%s", f->text);
	to->count++;
}

void wrong_look(const char *name, struct vhd_check_options options)
{
	memset(&wrong_found, 0, sizeof(wrong_found));
	options.finding = keep;
	options.arg = &wrong_found;
	wrong_found.rc = vhd_check(wrong_path(name), &options, &wrong_found.result,
				   &wrong_found.err);
}

bool wrong_has(int code, enum vhd_severity severity)
{
	for (unsigned i = 0; i < wrong_found.count; i++)
		if (wrong_found.list[i].code == code && wrong_found.list[i].severity == severity)
			return true;
	return false;
}

void wrong_fail(const char *row, const char *why)
{
	wrong_failures++;
	fprintf(stderr, "%s: %s (rc %d %s)\n", row, why, wrong_found.rc, wrong_found.err.text);
	for (unsigned i = 0; i < wrong_found.count; i++)
		fprintf(stderr, "    found: %s/%d: %s\n", vhd_error_name(-wrong_found.list[i].code),
			wrong_found.list[i].severity, wrong_found.list[i].text);
}

/* @code 0: nothing at all must be found.  @others: besides it, other findings are fine. */
void wrong_expect(const char *row, int code, enum vhd_severity severity, bool others)
{
	unsigned damages = 0;

	wrong_rows++;
	for (unsigned i = 0; i < wrong_found.count; i++)
		damages += wrong_found.list[i].severity == VHD_DAMAGE;
	if (wrong_found.rc)
		wrong_fail(row, "could not be examined");
	else if (code && !wrong_has(code, severity))
		wrong_fail(row, vhd_error_name(-code));
	else if (!others && wrong_found.count != (code ? 1 : 0))
		wrong_fail(row, "more than the damage was found");
	else if (damages != wrong_found.result.damages)
		wrong_fail(row, "damages are counted wrongly");
	else if (code && severity != VHD_DAMAGE && damages)
		wrong_fail(row, "no damage was done");
}
