/* edit.h - images for tests: made by the library, then changed by hand */
#ifndef TESTS_EDIT_H
#define TESTS_EDIT_H

#include <stddef.h>
#include <stdint.h>

/* A directory of its own, made the working directory; removed by edit_end(). */
void edit_begin(const char *name);
void edit_end(void);
const char *edit_directory(void);

/* Empty dynamic image; child of an image.  Abort on failure. */
void edit_create(const char *path, uint64_t size);
void edit_snapshot(const char *child, const char *parent);
void edit_snapshot_raw(const char *child, const char *raw);
/* A file of @size bytes, all @fill. */
void edit_file(const char *path, size_t size, int fill);

/* Write @text as the one locator of @child (@code; the others are cleared), and @name as
 * the name in its header (NULL: none). */
void edit_locator(const char *child, uint32_t code, const char *text, const char *name);
/* The id of an image; the id of its parent as it names it. */
void edit_get_id(const char *path, uint8_t *id);
void edit_set_parent_id(const char *child, const uint8_t *id);
/* Replace both cookies by v_poison. */
void edit_poison(const char *path);
/* One byte of the file. */
void edit_byte(const char *path, uint64_t offset, uint8_t value);

#endif
