/* fuzz_repair.c - an image in a file: repaired, undone, salvaged
 *
 *   byte 0  bit 0: right checksums; bits 1 to 6: options of the repair; bit 7: guesses; then the
 *           image
 *
 * What check calls repairable is gone afterwards, a dry run tells the same, a second run finds
 * nothing to do, an undo gives the same bytes; a salvaged image is sound.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "libvhd/base/number.h"
#include "libvhd/vhd.h"
#include "tests/lib/seal.h"

#define IMAGE_BYTES_MAX (256u << 10)
#define DISK_MAX	(64ull << 20) /* larger ones are not salvaged: that takes time */

static char directory[64], path[80], kept[80], target[80];

struct found {
	unsigned damages, repairable;
};

static void hear(void *arg, const struct vhd_finding *f)
{
	struct found *found = arg;

	if (strcmp(f->file, path) != 0 && strcmp(f->file, target) != 0)
		return;
	/* of the image itself, not of where its parent is */
	switch (f->code) {
	case -VHD_E_PARENT_MISSING:
	case -VHD_E_PARENT_ID:
	case -VHD_E_PARENT_DENIED:
	case -VHD_E_CYCLE:
	case -VHD_E_NOT_VHD:
	case -VHD_E_NOT_FILE:
		return;
	}
	found->damages += f->severity == VHD_DAMAGE && f->code <= -VHD_E_FIRST;
	found->repairable += f->repairable;
}

static struct found check(const char *name)
{
	struct found found = { 0 };
	struct vhd_check_options o = {
		.bitmaps = true, .ignore_timestamps = true, .finding = hear, .arg = &found
	};
	struct vhd_check_result result;
	struct vhd_error err = { 0 };

	if (vhd_check(name, &o, &result, &err) < 0)
		MUST(err.code < 0 && err.text[0]);
	return found;
}

static bool same(const uint8_t *bytes, size_t size)
{
	uint8_t *now = malloc(size + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool same = read(fd, now, size + 1) == (ssize_t)size && !memcmp(now, bytes, size);

	close(fd);
	free(now);
	return same;
}

static void repair(const uint8_t *bytes, size_t size, unsigned options)
{
	static const uint32_t owners[] = { 0, 3 };
	struct vhd_repair_options o = { .drop_lost = options & 2,
					.keep_unmarked = options & 4,
					.trim = options & 8,
					.end_footer = options & 16,
					.backup_footer = (options & 48) == 32,
					.owners = owners,
					.owner_count = options & 64 ? 2 : 0,
					.backup = kept };
	struct vhd_repair_result dry, r, again;
	struct vhd_error err = { 0 };
	struct found before = check(path), after;
	int rc;

	o.dry_run = true;
	rc = vhd_repair(path, &o, &dry, &err);
	MUST(same(bytes, size));
	o.dry_run = false;
	MUST(vhd_repair(path, &o, &r, &err) == rc);
	if (rc < 0) {
		MUST(err.code == rc && err.text[0] && same(bytes, size));
		/* refused as a whole only where nothing was promised, or by that footer */
		MUST(!before.repairable || o.backup_footer);
		return;
	}
	MUST(r.changes == dry.changes && r.damages == dry.damages &&
	     r.lost_bytes == dry.lost_bytes);
	after = check(path);
	MUST(!after.repairable || o.backup_footer);
	MUST(!!r.damages == !!after.damages);
	MUST(!r.changes == !r.backup[0]);
	MUST(vhd_repair(path, &o, &again, &err) == 0 && !again.changes &&
	     again.damages == r.damages);
	if (!r.changes) {
		MUST(same(bytes, size));
		return;
	}
	MUST(!vhd_repair_undo(path, kept, false, &err) && same(bytes, size));
	MUST(unlink(kept) == 0);
}

static void salvage(const uint8_t *bytes, size_t size, bool guess)
{
	struct vhd_salvage_options o = { .guess = guess, .dry_run = true };
	struct vhd_salvage_result r, dry;
	struct vhd_error err = { 0 };
	struct found found;
	int rc = vhd_salvage(path, target, &o, &dry, &err);

	MUST(rc == 0 || (err.code == rc && err.text[0]));
	if (rc < 0 || dry.size > DISK_MAX)
		return;
	MUST(dry.lost_bytes + dry.guessed_bytes <= 2 * dry.size);
	o.dry_run = false;
	MUST(!vhd_salvage(path, target, &o, &r, &err));
	MUST(r.size == dry.size && r.data_bytes == dry.data_bytes &&
	     r.lost_bytes == dry.lost_bytes && r.guessed_bytes == dry.guessed_bytes);
	found = check(target);
	MUST(!found.damages && !found.repairable && same(bytes, size));
	MUST(unlink(target) == 0);
}

static void leave(void)
{
	unlink(path);
	unlink(kept);
	unlink(target);
	rmdir(directory);
}

static void store(const uint8_t *bytes, size_t size)
{
	int fd;

	if (!directory[0]) {
		snprintf(directory, sizeof(directory), "%s/fuzz-repair.XXXXXX",
			 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		MUST(mkdtemp(directory));
		snprintf(path, sizeof(path), "%s/t.vhd", directory);
		snprintf(kept, sizeof(kept), "%s/kept", directory);
		snprintf(target, sizeof(target), "%s/s.vhd", directory);
		atexit(leave);
	}
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes;

	if (size < 2 || size > IMAGE_BYTES_MAX)
		return 0;
	bytes = malloc(size - 1);
	memcpy(bytes, data + 1, size - 1);
	if (data[0] & 1)
		seal_image(bytes, size - 1);
	store(bytes, size - 1);
	repair(bytes, size - 1, data[0]);
	salvage(bytes, size - 1, data[0] & 128);
	free(bytes);
	return 0;
}
