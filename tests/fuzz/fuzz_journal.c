/* fuzz_journal.c - a resize journal of the predecessor's, of an image that is poisoned
 *
 * As it is, and with right checksums.  Refused: nothing was written.  Put back: the image ends where
 * the journal says, and nothing lies behind.
 */
#include "fuzz.h"
#include "libvhd/journal-note.h"
#include "libvhd/revert.h"
#include "tests/lib/io-mem.h"
#include "tests/lib/journal-make.h"

#define JOURNAL_MAX (64u << 10)

static void put_back(const struct mem_disk *image, const uint8_t *data, size_t size)
{
	struct mem_disk *disk = mem_disk_copy(image), *from = mem_disk_new(size, false);
	struct vhd_io *io = mem_disk_open(disk, "image", true), *j;
	struct vhd_revert_result result = { 0 };
	uint64_t before = mem_disk_size(disk);
	int rc;

	mem_disk_poke(from, data, size, 0);
	j = mem_disk_open(from, "journal", false);
	rc = revert_apply(io, j, false, &result, NULL);
	if (rc <= 0) {
		MUST(!mem_disk_pending(disk) && mem_disk_size(disk) == before);
	} else {
		MUST(result.reverted && mem_disk_size(disk) <= before);
	}
	io_close(io);
	io_close(j);
	mem_disk_free(disk);
	mem_disk_free(from);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mem_disk *image;
	struct journal_facts facts;
	uint8_t *copy;

	if (size > JOURNAL_MAX)
		size = JOURNAL_MAX;
	if (!image) {
		image = journal_make_image();
		journal_make_interrupted(image);
	}
	if (size >= JOURNAL_NOTE_BYTES && journal_note_decode(data, &facts))
		MUST(facts.footer.current_size && facts.place % 512 == 0);
	put_back(image, data, size);
	copy = malloc(size + 1);
	memcpy(copy, data, size);
	journal_make_seal(copy, size);
	put_back(image, copy, size);
	free(copy);
	return 0;
}
