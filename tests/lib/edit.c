/* edit.c - images for tests: made by the library, then changed by hand */
#include "edit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/footer.h"
#include "libvhd/header.h"
#include "libvhd/locator.h"
#include "libvhd/utf16.h"
#include "libvhd/vhd.h"

static char directory[128];

#define MUST(condition)                                                                 \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

static void must(int rc, const struct vhd_error *err)
{
	if (rc < 0) {
		fprintf(stderr, "%s\n", err->text);
		abort();
	}
}

void edit_begin(const char *name)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(directory, sizeof(directory), "%.80s/%.20s.XXXXXX", tmp ? tmp : "/tmp", name);
	MUST(mkdtemp(directory));
	MUST(chdir(directory) == 0);
}

static void remove_all(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char inner[512];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		if (entry->d_type == DT_DIR)
			remove_all(inner);
		else
			unlink(inner);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

void edit_end(void)
{
	MUST(chdir("/") == 0);
	remove_all(directory);
}

const char *edit_directory(void)
{
	return directory;
}

void edit_create(const char *path, uint64_t size)
{
	struct vhd_create_options options = { .type = VHD_TYPE_DYNAMIC, .size = size };
	struct vhd_error err;

	must(vhd_create(path, &options, &err), &err);
}

void edit_snapshot(const char *child, const char *parent)
{
	struct vhd_snapshot_options options = { .link_empty = true };
	struct vhd_error err;

	must(vhd_snapshot(child, parent, &options, &err), &err);
}

void edit_snapshot_raw(const char *child, const char *raw)
{
	struct vhd_snapshot_options options = { .raw_parent = true };
	struct vhd_error err;

	must(vhd_snapshot(child, raw, &options, &err), &err);
}

void edit_file(const char *path, size_t size, int fill)
{
	FILE *f = fopen(path, "w");

	MUST(f);
	while (size--)
		MUST(putc(fill, f) != EOF);
	MUST(fclose(f) == 0);
}

static void load(const char *path, int *fd, struct vhd_footer *footer, struct vhd_header *header)
{
	uint8_t raw[VHD_HEADER_BYTES];

	*fd = open(path, O_RDWR | O_CLOEXEC);
	MUST(*fd >= 0);
	MUST(pread(*fd, raw, VHD_FOOTER_BYTES, 0) == VHD_FOOTER_BYTES);
	MUST(footer_decode(raw, footer, NULL) == 0);
	MUST(pread(*fd, raw, sizeof(raw), (off_t)footer->data_offset) == sizeof(raw));
	MUST(header_decode(raw, header, NULL) == 0);
}

static void store(int fd, const struct vhd_footer *footer, const struct vhd_header *header)
{
	uint8_t raw[VHD_HEADER_BYTES];

	header_encode(header, raw);
	MUST(pwrite(fd, raw, sizeof(raw), (off_t)footer->data_offset) == sizeof(raw));
	close(fd);
}

void edit_locator(const char *child, uint32_t code, const char *text, const char *name)
{
	struct vhd_footer footer;
	struct vhd_header header;
	struct vhd_locator_entry entry = { 0 };
	uint8_t data[512];
	int fd, length;

	load(child, &fd, &footer, &header);
	if (code == LOCATOR_WI2R || code == LOCATOR_WI2K) { /* nobody writes these any more */
		length = snprintf((char *)data, sizeof(data), "%s", text);
		for (int i = 0; i < length; i++)
			data[i] = data[i] == '/' ? '\\' : data[i];
	} else {
		length = locator_encode(code, text, data, sizeof(data), NULL);
	}
	MUST(length > 0);
	for (unsigned i = 0; i < VHD_LOCATORS; i++) {
		if (header.locators[i].code && !entry.code)
			entry = header.locators[i];
		memset(&header.locators[i], 0, sizeof(header.locators[i]));
	}
	MUST(entry.code);
	entry.code = code;
	entry.length = (uint32_t)length;
	header.locators[0] = entry;
	MUST(pwrite(fd, data, (size_t)length, (off_t)entry.offset) == length);
	memset(header.parent_name, 0, sizeof(header.parent_name));
	if (name)
		MUST(utf16_encode(name, UTF16_BE, header.parent_name, VHD_NAME_UNITS) > 0);
	store(fd, &footer, &header);
}

void edit_get_id(const char *path, uint8_t *id)
{
	struct vhd_footer footer;
	struct vhd_header header;
	int fd;

	load(path, &fd, &footer, &header);
	close(fd);
	memcpy(id, footer.uuid, VHD_UUID_BYTES);
}

void edit_set_parent_id(const char *child, const uint8_t *id)
{
	struct vhd_footer footer;
	struct vhd_header header;
	int fd;

	load(child, &fd, &footer, &header);
	memcpy(header.parent_uuid, id, VHD_UUID_BYTES);
	store(fd, &footer, &header);
}

void edit_poison(const char *path)
{
	struct vhd_footer footer;
	struct vhd_header header;
	uint8_t raw[VHD_FOOTER_BYTES];
	int fd;

	load(path, &fd, &footer, &header);
	footer.poisoned = true;
	footer_encode(&footer, raw);
	MUST(pwrite(fd, raw, sizeof(raw), 0) == sizeof(raw));
	MUST(pwrite(fd, raw, sizeof(raw), lseek(fd, 0, SEEK_END) - VHD_FOOTER_BYTES) ==
	     sizeof(raw));
	close(fd);
}

void edit_byte(const char *path, uint64_t offset, uint8_t value)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	MUST(fd >= 0 && pwrite(fd, &value, 1, (off_t)offset) == 1);
	close(fd);
}
