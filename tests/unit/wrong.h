/* wrong.h - images made byte by byte, to be damaged and looked at by vhd_check
 *
 * The maker shares no code with the library.  Files are in a directory of their own: x.vhd, p.vhd
 * and c.vhd, removed at the end.
 */
#ifndef TESTS_WRONG_H
#define TESTS_WRONG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvhd/vhd.h"

#define WRONG_BLOCK    (2u << 20)
#define WRONG_SIZE     (16u << 20)
#define WRONG_ROOM     (8u << 20) /* no image here is longer */
#define WRONG_FINDINGS 64

struct wrong_image {
	uint8_t bytes[WRONG_ROOM];
	size_t length;
	size_t end; /* place of the end footer */
};

/* What the last look found. */
extern struct wrong_found {
	struct {
		int code;
		enum vhd_severity severity;
		unsigned has;
		uint64_t block, offset;
		bool repairable;
		char text[512];
	} list[WRONG_FINDINGS];
	unsigned count;
	struct vhd_check_result result;
	int rc;
	struct vhd_error err;
} wrong_found;

extern unsigned wrong_failures, wrong_rows;

/* An image to work on, and the directory; NULL: neither can be had.  The status of the program
 * at its end, which prints the counts under @name. */
struct wrong_image *wrong_begin(void);
int wrong_end(struct wrong_image *m, const char *name);

/* ── making images ── */

void wrong_put32(uint8_t *p, uint32_t v);
void wrong_put64(uint8_t *p, uint64_t v);
void wrong_sum_footer(uint8_t *p);
void wrong_make_footer(uint8_t *p, uint32_t type, uint64_t size);
void wrong_sum_header(struct wrong_image *m);
void wrong_sum_batmap(struct wrong_image *m);
/* Both footers anew, after a change to the one at 0. */
void wrong_copy_footer(struct wrong_image *m);
uint8_t *wrong_entry(struct wrong_image *m, unsigned block);
/* 16 MiB in 2 MiB blocks; block 0 at sector 4, its sectors 0 and 1 written. */
void wrong_make_dynamic(struct wrong_image *m);
/* The same with a batmap: header at 2048, map at 2560; blocks 0 and 1 from sector 7 on, all
 * of block 0 written, one sector of block 1. */
void wrong_make_tap(struct wrong_image *m);
void wrong_make_fixed(struct wrong_image *m);
/* A child of "p.vhd" by W2ru locator; nothing of its own. */
void wrong_make_child(struct wrong_image *m);
const char *wrong_path(const char *name);
void wrong_save(const struct wrong_image *m, const char *name);

/* ── looking ── */

void wrong_look(const char *name, struct vhd_check_options options);
bool wrong_has(int code, enum vhd_severity severity);
void wrong_fail(const char *row, const char *why);
/* @code 0: nothing at all must be found.  @others: besides it, other findings are fine. */
void wrong_expect(const char *row, int code, enum vhd_severity severity, bool others);

#endif
