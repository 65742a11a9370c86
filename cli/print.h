/* print.h - what goes to stdout and stderr: text and JSON
 *
 * JSON is written as it is made, value by value, so that a list of millions
 * of extents needs no memory.  One object with its schema first:
 *
 *	struct print_json j;
 *	print_json_begin(&j, "map/1");
 *	print_json_array(&j, "extents");
 *		print_json_object(&j, NULL);		in an array: no key
 *		print_json_number(&j, "start", 0);
 *		print_json_close(&j);
 *	print_json_close(&j);
 *	print_json_end(&j);
 *
 * Failures of stdout are kept by stdio and told once, by print_flush().
 */
#ifndef CLI_PRINT_H
#define CLI_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvhd/vhd.h"

#define PRINT_JSON_DEPTH 8

struct print_json {
	unsigned depth; /* of what is open */
	struct {
		char close;    /* the bracket that ends it */
		bool begun;    /* has a member already */
		bool one_line; /* inside an array */
	} open[PRINT_JSON_DEPTH];
};

void print_json_begin(struct print_json *j, const char *schema);
/* @key is NULL inside arrays.  Text that is not UTF-8 gets U+FFFD for each wrong byte; NULL text
 * is null. */
void print_json_text(struct print_json *j, const char *key, const char *text);
void print_json_number(struct print_json *j, const char *key, uint64_t number);
void print_json_bool(struct print_json *j, const char *key, bool truth);
void print_json_null(struct print_json *j, const char *key);
void print_json_array(struct print_json *j, const char *key);
void print_json_object(struct print_json *j, const char *key);
void print_json_close(struct print_json *j); /* the array or object opened last */
void print_json_end(struct print_json *j);   /* the whole */

/* "00112233-4455-…": the 16 bytes in their order.  @out has 37 bytes; returns it. */
const char *print_uuid(const uint8_t id[16], char *out);

/* Bytes as they are.  False when stdout failed: no use going on. */
bool print_bytes(const void *data, size_t length);
/* Sixteen bytes a line: place in hex, bytes, and what of them is ASCII.  @place is that of
 * the first byte.  False as print_bytes. */
bool print_hex(const uint8_t *data, size_t length, uint64_t place);

/* Is stdout in trouble?  Long lists stop early. */
bool print_failed(void);
/* End of the program: what stdout says decides when @status is 0.  Returns the status. */
int print_flush(int status);

/* With --debug, print_error() adds a second line: name of the code, place, values. */
void print_set_debug(bool debug);

#endif
