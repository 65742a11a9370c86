/* history.h - what each sector of a disk may hold after a power cut
 *
 * Since the last flush that returned, a sector may be as it was then, or as any write since
 * left it: one of them, whole.  What a failed write or flush covers stays in doubt, whatever later
 * flushes say, until it is written again and flushed (ORDER 5).  After a failed flush it may also be
 * zero: the data may be lost, and its place known all the same.
 */
#ifndef TEST_CRASH_HISTORY_H
#define TEST_CRASH_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_SECTORS 1024u

struct history {
	uint64_t *hashes[HISTORY_SECTORS]; /* owned; the durable one first */
	unsigned count[HISTORY_SECTORS], room[HISTORY_SECTORS];
	unsigned doubt[HISTORY_SECTORS]; /* so many of the first are in doubt; 0 or > 1 */
	bool lost[HISTORY_SECTORS];	 /* those in doubt, by a flush */
	uint64_t sectors;
};

void history_begin(struct history *h, const uint8_t *data, uint64_t sectors);
void history_end(struct history *h);
/* @data is now the disk; sectors [@first, @first + @count) were written. */
void history_write(struct history *h, const uint8_t *data, uint64_t first, uint64_t count);
/* All that was written is durable, but for what is in doubt. */
void history_flush(struct history *h);
/* A write of [@first, @first + @count) failed; a flush did. */
void history_fail_write(struct history *h, uint64_t first, uint64_t count);
void history_fail_flush(struct history *h);
/* May @data be there after a cut?  Else the first sector that may not: *sector. */
bool history_allows(const struct history *h, const uint8_t *data, uint64_t *sector);

#endif
