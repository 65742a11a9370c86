/* error.h - filling in struct vhd_error; one table: code, sentence, exit status */
#ifndef VHD_ERROR_H
#define VHD_ERROR_H

#include "vhd.h"

/* Each returns @code so that a failure reads: return error_set(err, -VHD_E_X, …).
 * @err may be NULL.  @format is a whole sentence, lower case: error first, subject quoted:
 * "cannot open 'x.vhd': …". */
int error_set(struct vhd_error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As error_set, with a place in the file. */
int error_at(struct vhd_error *err, int code, uint64_t offset, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* As error_at, with what was expected and what was found. */
int error_value(struct vhd_error *err, int code, uint64_t offset, uint64_t expected, uint64_t found,
		const char *format, ...) __attribute__((format(printf, 6, 7)));

/* Adds @base to the offset of an error that a pure decoder made, and puts
 * "'@file': " in front of its text and ", at offset N" behind.  Returns err's code, or
 * @code when err is NULL. */
int error_place(struct vhd_error *err, int code, const char *file, uint64_t base);

/* "cannot @verb '@file': strerror" for -errno codes. */
int error_system(struct vhd_error *err, int code, const char *verb, const char *file);

/* Put "@format: " in front of the text already there. */
void error_prefix(struct vhd_error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Is the code one of ours (not an errno)? */
static inline bool error_is_vhd(int code)
{
	return code <= -VHD_E_FIRST;
}

#endif
