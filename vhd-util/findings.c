/* findings.c - findings as JSON, ranges that are lost */
#include "findings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void number_or_null(struct print_json *j, const char *key, bool has, uint64_t number)
{
	if (has)
		print_json_number(j, key, number);
	else
		print_json_null(j, key);
}

void finding_print_json(struct print_json *j, const struct vhd_finding *f)
{
	static const char *const severities[] = {
		[VHD_NOTE] = "note", [VHD_WARNING] = "warning", [VHD_DAMAGE] = "damage"
	};

	print_json_object(j, NULL);
	print_json_text(j, "code", vhd_error_name(f->code));
	print_json_text(j, "severity", severities[f->severity]);
	print_json_text(j, "file", f->file);
	number_or_null(j, "offset", f->has & VHD_HAS_OFFSET, f->offset);
	number_or_null(j, "block", f->has & VHD_HAS_BLOCK, f->block);
	number_or_null(j, "expected", f->has & VHD_HAS_VALUES, f->expected);
	number_or_null(j, "found", f->has & VHD_HAS_VALUES, f->found);
	print_json_text(j, "text", f->text);
	print_json_bool(j, "repairable", f->repairable);
	print_json_close(j);
}

void ranges_add(struct ranges *r, const struct vhd_lost *range)
{
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		struct vhd_lost *list = realloc(r->list, room * sizeof(*list));

		if (!list) {
			r->dropped++;
			return;
		}
		r->list = list;
		r->room = room;
	}
	r->list[r->count++] = *range;
}

void ranges_release(struct ranges *r)
{
	free(r->list);
	*r = (struct ranges){ .list = NULL };
}

void ranges_print(const struct ranges *r, const char *path, struct print_json *j)
{
	if (j)
		print_json_array(j, "lost");
	for (size_t i = 0; i < r->count; i++) {
		const struct vhd_lost *x = &r->list[i];

		if (!j) {
			printf("%s: %s: %" PRIu64 " bytes from byte %" PRIu64
			       " on (sectors %" PRIu64 " to %" PRIu64 "): %s\n",
			       path, x->guessed ? "guessed" : "lost", x->length, x->offset,
			       x->offset / 512, (x->offset + x->length - 1) / 512, x->why);
			continue;
		}
		print_json_object(j, NULL);
		print_json_number(j, "start", x->offset);
		print_json_number(j, "length", x->length);
		print_json_bool(j, "guessed", x->guessed);
		print_json_text(j, "why", x->why);
		print_json_close(j);
	}
	if (j)
		print_json_close(j);
	else if (r->dropped)
		printf("%s: lost: %zu more ranges, no memory to tell them\n", path, r->dropped);
}
