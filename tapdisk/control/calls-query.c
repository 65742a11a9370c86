/* calls-query.c - methods that tell facts */
#include <errno.h>
#include <unistd.h>

#include "calls.h"
#include "libvhd/error.h"

void call_list(struct call *call)
{
	struct control *control = call->control;
	json_t *disks = json_array();

	for (const struct list *l = control->slots.next; l != &control->slots; l = l->next)
		json_array_append_new(disks, stats_disk(list_entry(l, struct slot, link)));
	call_reply(call,
		   json_pack("{s:i, s:s, s:s, s:o}", "pid", (int)getpid(), "version", vhd_version(),
			     "engine", engine_name(control->params.host->engine), "disks", disks));
}

void call_stats(struct call *call)
{
	call_reply(call, json_pack("{s:o}", "stats", stats_numbers(call->slot->vbd)));
}

void call_clients(struct call *call)
{
	struct slot *slot = NULL;

	if (call_has(call, "minor")) {
		slot = slots_find(call->control, (unsigned)call_int(call, "minor", 0));
		if (!slot) {
			call_refuse(call, -ENODEV, "minor %u is not attached to this tapdisk",
				    (unsigned)call_int(call, "minor", 0));
			return;
		}
	}
	call_reply(call, json_pack("{s:o}", "clients", exports_clients(call->control, slot)));
}

/* Nothing to do until something happens (slots_event); its client ends it.  The first answer says
 * that events from now on are told. */
void call_events(struct call *call)
{
	call_continue(call, json_pack("{s:s, s:i}", "event", "listening", "pid", (int)getpid()));
}
