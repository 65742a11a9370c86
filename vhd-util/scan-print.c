/* scan-print.c - one image as a line, in a tree, as JSON
 *
 * The line is what scripts read: its words and their order stay.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libvhd/layout.h"
#include "libvhd/path.h"
#include "peek.h"
#include "scan.h"

#define INDENT 3 /* spaces a level of the tree */

static const struct {
	unsigned problem; /* enum scan_problem */
	const char *code; /* in JSON */
	const char *mark; /* behind the line in a tree */
} problems[] = {
	{ SCAN_PARENT_MISSING, "parent-missing", " (missing)" },
	{ SCAN_PARENT_WRONG, "parent-wrong", " (not its parent)" },
	{ SCAN_PARENT_AMBIGUOUS, "parent-ambiguous", " (ambiguous)" },
	{ SCAN_PARENT_OUTSIDE, "parent-outside", " (not found in scan)" },
	{ SCAN_DUPLICATE_ID, "duplicate-id", " (duplicate id)" },
	{ SCAN_CYCLE, "cycle", " (cycle)" },
};
#define PROBLEMS (sizeof(problems) / sizeof(problems[0]))

static const char *shown_name(const struct scan_style *style, const struct scan_record *r)
{
	if (!style->full_names)
		return path_base_name(r->name);
	return r->path ? r->path : r->name;
}

static const char *shown_parent(const struct scan_style *style, const struct scan_record *r)
{
	return !r->parent ? "none" : style->full_names ? r->parent : path_base_name(r->parent);
}

static const char *keyhash_text(const struct scan_record *r, char *out)
{
	char *to = out;

	*to = '\0';
	for (size_t i = 0; r->has_keyhash && i < sizeof(r->keyhash); i++)
		to += sprintf(to, "%02x", r->keyhash[i]);
	return out;
}
#define KEYHASH_TEXT 65

/* The number that scripts know the failure by. */
static int error_number(const struct scan_record *r)
{
	return -vhd_exit_status(r->error_code);
}

void scan_print_line(const struct scan_style *style, const struct scan_record *r, unsigned indent,
		     const char *mark)
{
	char name[PATH_TEXT_MAX * 2], text[PATH_TEXT_MAX * 2], hash[KEYHASH_TEXT];

	printf("%*svhd=%s", (int)indent, "", path_quote(shown_name(style, r), name, sizeof(name)));
	if (r->error) {
		char *quote = text;

		/* the text is in quotes: those in it would end it */
		snprintf(text, sizeof(text), "%s", r->error);
		while ((quote = strchr(quote, '\'')))
			*quote = '"';
		printf(" scan-error=%d error-message='%s'\n", error_number(r), text);
		return;
	}
	printf(" capacity=%" PRIu64 " size=%" PRIu64 " hidden=%d", r->size, r->file_size,
	       r->hidden);
	if (style->markers)
		printf(" marker=%u keyhash=%s", r->marker, keyhash_text(r, hash));
	printf(" parent=%s%s\n", path_quote(shown_parent(style, r), text, sizeof(text)), mark);
}

/* ── the tree ── */

static void print_marked(const struct scan_style *style, struct scan_record *r, unsigned level)
{
	char marks[128] = "";

	for (size_t k = 0; k < PROBLEMS; k++)
		if (r->problems & problems[k].problem)
			strcat(marks, problems[k].mark);
	scan_print_line(style, r, level * INDENT, marks);
	r->printed = true;
}

/* @root and all below it, without recursion: chains may be of any length. */
static void print_branch(const struct scan_style *style, struct scan_record *root)
{
	struct scan_record *r = root;
	unsigned level = 0;

	while (r && !print_failed()) {
		struct scan_record *down;

		print_marked(style, r, level);
		down = r->child;
		while (down && down->printed) /* a cycle has come round */
			down = down->next;
		if (down) {
			r = down;
			level++;
			continue;
		}
		while (r != root) {
			struct scan_record *next = r->next;

			while (next && next->printed)
				next = next->next;
			if (next) {
				r = next;
				break;
			}
			r = r->up;
			level--;
		}
		if (r == root)
			break;
	}
}

void scan_print_tree(const struct scan_style *style, struct scan_list *list)
{
	/* roots: hidden ones, which are the bases of something, then the others; last what has no
	 * root, as it goes in a circle */
	for (int pass = 0; pass < 3; pass++) {
		for (size_t i = 0; i < list->count && !print_failed(); i++) {
			struct scan_record *r = list->records[i];

			if (r->printed || (pass < 2 && r->up) || (pass == 0 && !r->hidden) ||
			    (pass == 2 && !(r->problems & SCAN_CYCLE)))
				continue;
			print_branch(style, r);
		}
	}
}

/* ── JSON ── */

static void print_id(struct print_json *j, const char *key, const uint8_t id[16])
{
	static const uint8_t none[16];
	char text[37];

	print_json_text(j, key, memcmp(id, none, sizeof(none)) ? print_uuid(id, text) : NULL);
}

static void print_facts(struct print_json *j, const struct scan_record *r)
{
	char hash[KEYHASH_TEXT];

	print_json_text(j, "format", peek_type_name(r->type));
	print_json_number(j, "capacity", r->size);
	print_json_number(j, "size", r->file_size);
	print_json_bool(j, "hidden", r->hidden);
	if (r->has_marker)
		print_json_number(j, "marker", r->marker);
	else
		print_json_null(j, "marker");
	print_json_text(j, "keyhash", r->has_keyhash ? keyhash_text(r, hash) : NULL);
	print_id(j, "id", r->id);
	print_json_text(j, "parent", r->parent);
	print_id(j, "parent_id", r->parent_id);
}

static void print_unknown(struct print_json *j)
{
	static const char *const keys[] = { "format",  "capacity", "size",   "hidden",	 "marker",
					    "keyhash", "id",	   "parent", "parent_id" };

	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
		print_json_null(j, keys[k]);
}

static void print_image(struct print_json *j, const struct scan_style *style,
			const struct scan_record *r)
{
	print_json_object(j, NULL);
	print_json_text(j, "file", shown_name(style, r));
	print_json_text(j, "path", r->path ? r->path : r->name);
	if (r->error)
		print_unknown(j);
	else
		print_facts(j, r);
	print_json_text(j, "error", r->error);
	if (r->error)
		print_json_text(j, "code", vhd_error_name(r->error_code));
	else
		print_json_null(j, "code");
	print_json_array(j, "problems");
	for (size_t k = 0; k < PROBLEMS; k++)
		if (r->problems & problems[k].problem)
			print_json_text(j, NULL, problems[k].code);
	print_json_close(j);
	print_json_close(j);
}

void scan_print_json(const struct scan_style *style, const struct scan_list *list)
{
	struct print_json j;

	print_json_begin(&j, "scan/1");
	print_json_array(&j, "images");
	for (size_t i = 0; i < list->count && !print_failed(); i++)
		print_image(&j, style, list->records[i]);
	print_json_close(&j);
	print_json_end(&j);
}
