/* stats.c - numbers of a disk as JSON
 *
 * The names that old scripts read (name, secs, images, reqs_outstanding) stand
 * beside ours.
 */
#include <stdlib.h>
#include <string.h>

#include "slots.h"

#define LAYERS_MAX 512u

/* Numbers that the predecessor gave image types, for those who read them. */
static int type_number(const char *type)
{
	static const struct {
		const char *name;
		int number;
	} known[] = { { "aio", 0 }, { "raw", 0 }, { "vhd", 4 }, { "ram", 5 }, { "log", 9 } };

	for (unsigned k = 0; k < sizeof(known) / sizeof(known[0]); k++)
		if (!strcmp(type, known[k].name))
			return known[k].number;
	return -1;
}

/* Names come from the world: what is no UTF-8 is not shown, rather than failing all. */
static json_t *text(const char *value)
{
	json_t *told = json_string(value ? value : "");

	return told ? told : json_string("?");
}

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)(value <= INT64_MAX ? value : INT64_MAX));
}

json_t *stats_disk(const struct slot *slot)
{
	const struct vbd *vbd = slot->vbd;
	const char *spec = vbd_spec(vbd);

	return json_pack("{s:i, s:o, s:i, s:s, s:o, s:o, s:o, s:b, s:s, s:o, s:o}", "minor",
			 (int)vbd_minor(vbd), "name", text(vbd_name(vbd)), "state",
			 (int)vbd_state(vbd), "status", vbd_state_text(vbd), "reason",
			 text(vbd_reason(vbd)), "args", spec ? text(spec) : json_null(), "size",
			 integer(vbd_size(vbd)), "read_only", vbd_read_only(vbd), "busy",
			 slot->busy	? slot->busy :
			 slot->resuming ? "Unpause" :
					  "",
			 "pauses", integer(vbd_pauses(vbd)), "exports", exports_json(slot));
}

static json_t *images(const struct vbd *vbd)
{
	struct disk_layer_info *layers;
	struct disk *disk = vbd_disk(vbd);
	json_t *all = json_array();
	unsigned count;

	if (!all || !disk || !disk->ops->layers)
		return all;
	layers = calloc(LAYERS_MAX, sizeof(*layers));
	if (!layers)
		return all;
	count = disk->ops->layers(disk, layers, LAYERS_MAX);
	for (unsigned k = 0; k < count && k < LAYERS_MAX; k++) {
		const struct disk_layer_info *i = &layers[k];

		json_array_append_new(all,
				      json_pack("{s:o, s:[o, o], s:[o, o], s:{s:i, s:s, s:n}}",
						"name", text(i->path), "hits", integer(i->reads),
						integer(i->writes), "fail",
						integer(i->read_failures),
						integer(i->write_failures), "driver", "type",
						type_number(i->type), "name", i->type, "status"));
	}
	free(layers);
	return all;
}

static json_t *one_op(const struct vbd_op_stats *s)
{
	json_t *latency = json_array();
	unsigned last = VBD_LATENCY_BUCKETS;

	while (last && !s->latency[last - 1])
		last--;
	for (unsigned k = 0; k < last; k++)
		json_array_append_new(latency, integer(s->latency[k]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "count", integer(s->count), "bytes",
			 integer(s->bytes), "errors", integer(s->errors), "total_ns",
			 integer(s->total_ns), "max_ns", integer(s->max_ns), "latency_log2_us",
			 latency);
}

static json_t *all_ops(const struct vbd_stats *s)
{
	static const char *const names[] = {
		[REQUEST_READ] = "read",   [REQUEST_WRITE] = "write", [REQUEST_FLUSH] = "flush",
		[REQUEST_TRIM] = "trim",   [REQUEST_ZERO] = "zero",   [REQUEST_STATUS] = "status",
		[REQUEST_CACHE] = "cache",
	};
	json_t *all = json_object();

	for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++)
		json_object_set_new(all, names[k], one_op(&s->op[k]));
	return all;
}

static json_t *limits(const struct vbd *vbd)
{
	struct vbd_limits l;

	vbd_get_limits(vbd, &l);
	return json_pack("{s:o, s:o, s:o, s:o}", "iops", integer(l.iops), "iops_burst",
			 integer(l.iops_burst), "bytes", integer(l.bytes), "bytes_burst",
			 integer(l.bytes_burst));
}

json_t *stats_numbers(const struct vbd *vbd)
{
	const char *log = vbd_changed_log(vbd);
	struct vbd_stats s;

	vbd_get_stats(vbd, &s);
	return json_pack(
		"{s:o, s:[o, o], s:o, s:o, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
		"s:o, s:o, s:o}",
		"name", text(vbd_spec(vbd)), "secs",
		integer(s.op[REQUEST_READ].bytes / REQUEST_SECTOR),
		integer(s.op[REQUEST_WRITE].bytes / REQUEST_SECTOR), "images", images(vbd),
		"reqs_outstanding", integer(s.outstanding), "minor", (int)vbd_minor(vbd), "state",
		(int)vbd_state(vbd), "status", vbd_state_text(vbd), "reason", text(vbd_reason(vbd)),
		"size", integer(vbd_size(vbd)), "held", integer(s.held), "throttled",
		integer(s.throttled), "retries", integer(s.retries), "stalls", integer(s.stalls),
		"stalled_ns", integer(s.stalled_ns), "flush_failures", integer(s.flush_failures),
		"changed_log", log ? text(log) : json_null(), "limits", limits(vbd), "ops",
		all_ops(&s));
}
