/* print.c - what goes to stdout and stderr: text and JSON */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "libvhd/base/cleanup.h"
#include "print.h"

static bool debug_wanted;
/* Why stdout failed first: stdio remembers only that it did. */
static int stdout_error;

static void keep_stdout_error(void)
{
	if (!stdout_error)
		stdout_error = errno;
}

/* ── errors ── */

/* One line, whatever is in the names it quotes. */
static void put_line(const char *kind, const char *text)
{
	fprintf(stderr, "%s: %s", program.name, kind);
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f)
			fprintf(stderr, "\\x%02x", *p);
		else
			putc(*p, stderr);
	}
	putc('\n', stderr);
}

static void put_details(const struct vhd_error *err)
{
	fprintf(stderr, "%s: debug: %s", program.name, vhd_error_name(err->code));
	if (err->has & VHD_HAS_OFFSET)
		fprintf(stderr, ", offset %" PRIu64, err->offset);
	if (err->has & VHD_HAS_VALUES)
		fprintf(stderr,
			", expected %" PRIu64 " (0x%" PRIx64 "), found %" PRIu64 " (0x%" PRIx64 ")",
			err->expected, err->expected, err->found, err->found);
	putc('\n', stderr);
}

int print_error(const struct vhd_error *err)
{
	/* results printed so far belong before the message */
	if (fflush(stdout))
		keep_stdout_error();
	put_line("", err->text[0] ? err->text : vhd_strerror(err->code));
	if (debug_wanted)
		put_details(err);
	return vhd_exit_status(err->code);
}

void print_warning(const struct vhd_error *warning)
{
	if (fflush(stdout))
		keep_stdout_error();
	put_line("warning: ", warning->text[0] ? warning->text : vhd_strerror(warning->code));
	if (debug_wanted)
		put_details(warning);
}

void print_set_debug(bool debug)
{
	debug_wanted = debug_wanted || debug;
}

/* ── stdout ── */

bool print_failed(void)
{
	return ferror(stdout);
}

int print_flush(int status)
{
	bool failed = fflush(stdout) != 0;

	if (failed)
		keep_stdout_error();
	failed = failed || ferror(stdout);
	/* network file systems tell it here */
	if (!failed && close(STDOUT_FILENO) && errno != EBADF) {
		keep_stdout_error();
		failed = true;
	}
	if (!failed)
		return status;
	if (!stdout_error)
		stdout_error = EPIPE;
	fprintf(stderr, "%s: cannot write to standard output: %s\n", program.name,
		strerror(stdout_error));
	/* 1 is no error but an answer, that of compare: nobody got it */
	return status > 1 ? status : vhd_exit_status(-stdout_error);
}

bool print_bytes(const void *data, size_t length)
{
	if (fwrite(data, 1, length, stdout) == length)
		return true;
	keep_stdout_error();
	return false;
}

bool print_hex(const uint8_t *data, size_t length, uint64_t place)
{
	for (size_t at = 0; at < length; at += 16) {
		size_t row = length - at < 16 ? length - at : 16;

		printf("%010" PRIx64 " ", place + at);
		for (size_t k = 0; k < 16; k++) {
			if (k == 8)
				putchar(' ');
			if (k < row)
				printf(" %02x", data[at + k]);
			else
				fputs("   ", stdout);
		}
		fputs("  |", stdout);
		for (size_t k = 0; k < row; k++) {
			uint8_t c = data[at + k];

			putchar(c >= 0x20 && c < 0x7f ? c : '.');
		}
		if (puts("|") < 0) {
			keep_stdout_error();
			return false;
		}
	}
	return true;
}

const char *print_uuid(const uint8_t id[16], char *out)
{
	char *p = out;

	for (int k = 0; k < 16; k++) {
		if (k == 4 || k == 6 || k == 8 || k == 10)
			*p++ = '-';
		p += sprintf(p, "%02x", id[k]);
	}
	return out;
}

/* ── JSON ── */

/* A value that cannot be made for want of memory: the text would be wrong, so the program
 * ends in an error, by the only way that cannot fail.  A stdout that fails is told later. */
static void put_value(json_t *value)
{
	bool put = value && json_dumpf(value, stdout, JSON_ENCODE_ANY) == 0;

	json_decref(value);
	if (put)
		return;
	if (!ferror(stdout)) {
		fprintf(stderr, "%s: %s\n", program.name, strerror(ENOMEM));
		_exit(ENOMEM);
	}
	keep_stdout_error();
}

static void new_line(const struct print_json *j)
{
	if (j->depth && j->open[j->depth - 1].one_line)
		return;
	putchar('\n');
	for (unsigned k = 0; k < j->depth; k++)
		fputs("  ", stdout);
}

/* What stands before a member: comma, line, key. */
static void put_key(struct print_json *j, const char *key)
{
	assert(j->depth);
	if (j->open[j->depth - 1].begun)
		fputs(j->open[j->depth - 1].one_line ? ", " : ",", stdout);
	j->open[j->depth - 1].begun = true;
	new_line(j);
	if (key) {
		put_value(json_string(key));
		fputs(": ", stdout);
	}
}

static void open_bracket(struct print_json *j, char open, char close)
{
	/* what is in an array is one line each */
	bool one_line = j->depth &&
			(j->open[j->depth - 1].one_line || j->open[j->depth - 1].close == ']');

	assert(j->depth < PRINT_JSON_DEPTH);
	putchar(open);
	j->open[j->depth].close = close;
	j->open[j->depth].begun = false;
	j->open[j->depth].one_line = one_line;
	j->depth++;
}

void print_json_begin(struct print_json *j, const char *schema)
{
	j->depth = 0;
	open_bracket(j, '{', '}');
	print_json_text(j, "schema", schema);
}

/* Length of the well-formed UTF-8 character at @p; 0 when it is none. */
static size_t utf8_character(const unsigned char *p)
{
	static const unsigned char least[] = { 0, 0, 0xc2, 0xe0, 0xf0 };
	size_t length = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;

	if (length == 1)
		return 1;
	if (*p < least[length] || *p > 0xf4)
		return 0;
	for (size_t k = 1; k < length; k++)
		if ((p[k] & 0xc0) != 0x80)
			return 0;
	/* too long for what they say, surrogates, past the last code point */
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
	    (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return length;
}

/* @text with U+FFFD for each byte that is no UTF-8; NULL without memory. */
static char *as_utf8(const char *text)
{
	const unsigned char *from = (const unsigned char *)text;
	char *copy = malloc(strlen(text) * 3 + 1);
	char *to = copy;

	while (copy && *from) {
		size_t length = utf8_character(from);

		memcpy(to, length ? (const char *)from : "\xef\xbf\xbd", length ? length : 3);
		to += length ? length : 3;
		from += length ? length : 1;
	}
	if (copy)
		*to = 0;
	return copy;
}

void print_json_text(struct print_json *j, const char *key, const char *text)
{
	CLEANUP_FREE char *copy = text ? as_utf8(text) : NULL;

	put_key(j, key);
	put_value(text ? json_string(copy) : json_null());
}

void print_json_number(struct print_json *j, const char *key, uint64_t number)
{
	put_key(j, key);
	if (number <= INT64_MAX)
		put_value(json_integer((json_int_t)number));
	else /* beyond jansson's integers, not beyond JSON's */
		printf("%" PRIu64, number);
}

void print_json_bool(struct print_json *j, const char *key, bool truth)
{
	put_key(j, key);
	put_value(json_boolean(truth));
}

void print_json_null(struct print_json *j, const char *key)
{
	put_key(j, key);
	put_value(json_null());
}

void print_json_array(struct print_json *j, const char *key)
{
	put_key(j, key);
	open_bracket(j, '[', ']');
}

void print_json_object(struct print_json *j, const char *key)
{
	put_key(j, key);
	open_bracket(j, '{', '}');
}

void print_json_close(struct print_json *j)
{
	assert(j->depth);
	j->depth--;
	if (j->open[j->depth].begun && !j->open[j->depth].one_line)
		new_line(j);
	putchar(j->open[j->depth].close);
}

void print_json_end(struct print_json *j)
{
	while (j->depth)
		print_json_close(j);
	putchar('\n');
}
