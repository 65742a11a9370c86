/* methods.c - the table of methods, and its description as text
 *
 * The description that the socket serves, and doc/control.varlink, are made from
 * this table: they cannot say other things than what is checked.
 */
#include <stdio.h>
#include <string.h>

#include "calls.h"
#include "tapdisk/protocol/rundir.h"

#define MS_MOST	   (INT64_C(1000) * 3600 * 24 * 365)
#define SIZE_MOST  (INT64_C(1) << 52)
#define TEXT_BYTES 8192u

#define MINOR                                                                 \
	{                                                                     \
		"minor", PARAMETER_INT, .least = 0, .most = RUNDIR_MINORS - 1 \
	}
#define TIMEOUT                                                                            \
	{                                                                                  \
		"timeout_ms", PARAMETER_INT, .optional = true, .least = 0, .most = MS_MOST \
	}
#define FLAG(word)                                     \
	{                                              \
		word, PARAMETER_BOOL, .optional = true \
	}
#define LIMIT(word)                                   \
	{                                             \
		word, PARAMETER_INT, .optional = true \
	}

static const struct parameter nothing[] = { { 0 } };
static const struct parameter disk_only[] = { MINOR, { 0 } };
static const struct parameter maybe_disk[] = {
	{ "minor", PARAMETER_INT, .optional = true, .least = 0, .most = RUNDIR_MINORS - 1 },
	{ 0 },
};
static const struct parameter attach_in[] = {
	MINOR,
	{ "name", PARAMETER_TEXT, .optional = true },
	{ 0 },
};
static const struct parameter open_in[] = {
	MINOR,
	{ "args", PARAMETER_TEXT, .optional = false },
	FLAG("read_only"),
	FLAG("buffered"),
	FLAG("writethrough"),
	FLAG("force"),
	{ "changed_log", PARAMETER_TEXT, .optional = true },
	FLAG("key"),
	TIMEOUT,
	{ 0 },
};
static const struct parameter close_in[] = { MINOR, FLAG("force"), TIMEOUT, { 0 } };
static const struct parameter pause_in[] = {
	MINOR,
	TIMEOUT,
	{ "lease_ms", PARAMETER_INT, .optional = true, .least = 0, .most = MS_MOST },
	FLAG("while_connected"),
	{ 0 },
};
static const struct parameter unpause_in[] = {
	MINOR,	      { "args", PARAMETER_TEXT, .optional = true },
	FLAG("grow"), { "changed_log", PARAMETER_TEXT, .optional = true },
	{ 0 },
};
static const struct parameter snapshot_in[] = {
	MINOR,
	{ "base", PARAMETER_TEXT, .optional = true },
	{ "new_leaf", PARAMETER_TEXT, .optional = true },
	TIMEOUT,
	{ 0 },
};
static const struct parameter resize_in[] = {
	MINOR,
	{ "size", PARAMETER_INT, .least = 1, .most = SIZE_MOST },
	TIMEOUT,
	{ 0 },
};
static const struct parameter throttle_in[] = {
	MINOR, LIMIT("iops"), LIMIT("iops_burst"), LIMIT("bytes"), LIMIT("bytes_burst"), { 0 },
};
static const struct parameter retry_in[] = {
	MINOR,
	{ "time_ms", PARAMETER_INT, .optional = true, .least = 0, .most = MS_MOST },
	FLAG("forever"),
	{ 0 },
};
static const struct parameter export_in[] = {
	MINOR,
	{ "address", PARAMETER_TEXT, .optional = false },
	{ "name", PARAMETER_TEXT, .optional = true },
	FLAG("read_only"),
	{ 0 },
};
static const struct parameter unexport_in[] = {
	MINOR,
	{ "address", PARAMETER_TEXT, .optional = true },
	{ 0 },
};

const struct method methods[] = {
	{ "List", "This process and its disks.", nothing,
	  "pid: int, version: string, engine: string, disks: []Disk", 0, call_list },
	{ "Attach", "Make a disk without image; the minor's marker is held until Detach.",
	  attach_in, "name: string", 0, call_attach },
	{ "Detach", "Undo Attach; the image was closed before.  The last one ends the process.",
	  disk_only, "", METHOD_DISK | METHOD_LIFE, call_detach },
	{ "Open",
	  "Open an image, TYPE:PATH, and export it at the disk's own socket.\n"
	  "timeout_ms: how long to wait for locks of others.  changed_log: file that gets the\n"
	  "changed blocks.  key: that of an encrypted image is in a file in memory (memfd), whose\n"
	  "descriptor comes along with the call.",
	  open_in, "path: string, name: string, size: int", METHOD_DISK | METHOD_LIFE, call_open },
	{ "Close",
	  "Drain, commit, close.  timeout_ms 0: no limit; when it runs out the disk goes on.\n"
	  "force: close even what cannot be made durable.",
	  close_in, "", METHOD_DISK | METHOD_LIFE, call_close },
	{ "Pause",
	  "Drain, commit, let go of the files; requests wait.  It ends by Unpause; after lease_ms\n"
	  "(0: never); and, with while_connected, when this connection ends.  As long as the disk\n"
	  "is paused and its number of pauses stays, this pause goes on.  already: another one "
	  "did,\n"
	  "and nothing was changed.",
	  pause_in, "state: int, pauses: int, already: bool", METHOD_DISK | METHOD_LIFE,
	  call_pause },
	{ "Unpause",
	  "Go on, on another image if args names one.  grow: it may be larger.\n"
	  "After a failure the disk is paused as before.  changed_log: file that gets the changed\n"
	  "blocks from now on; without it the one before does, if it is still there; \"\": none.",
	  unpause_in, "state: int", METHOD_DISK | METHOD_LIFE, call_unpause },
	{ "Snapshot",
	  "While requests run: base names the frozen node and the active name stays;\n"
	  "or new_leaf names the new leaf and the old one is hidden.",
	  snapshot_in, "leaf: string, stall_us: int", METHOD_DISK | METHOD_LIFE, call_snapshot },
	{ "Resize", "Grow within the room of the metadata; bytes.", resize_in, "size: int",
	  METHOD_DISK | METHOD_LIFE, call_resize },
	{ "Throttle",
	  "Limits a second; 0: none.  A burst of 0 is one second's.  What is not given stays.",
	  throttle_in, "iops: int, iops_burst: int, bytes: int, bytes_burst: int", METHOD_DISK,
	  call_throttle },
	{ "Retry",
	  "Try at once what waits for the storage.\n"
	  "time_ms, forever: how long to wait from now on.",
	  retry_in, "", METHOD_DISK, call_retry },
	{ "Export",
	  "Export the disk at one more address, unix:PATH or tcp:HOST:PORT, with the TLS that\n"
	  "the tapdisk was started with, if any.",
	  export_in, "address: string", METHOD_DISK | METHOD_LIFE, call_export },
	{ "Unexport", "Undo Export and what Open made: at one address, or everywhere.", unexport_in,
	  "", METHOD_DISK | METHOD_LIFE, call_unexport },
	{ "Stats", "Numbers of a disk: see tap-ctl(1), stats.", disk_only, "stats: object",
	  METHOD_DISK, call_stats },
	{ "Clients", "Who is connected by NBD, of one disk or of all.", maybe_disk,
	  "clients: []Client", 0, call_clients },
	{ "Events",
	  "What happens to one disk or to all, until the connection ends.  The first answer says\n"
	  "\"listening\".  Call with more.",
	  maybe_disk, "event: string, text: ?string, minor: ?int, name: ?string, pid: ?int",
	  METHOD_MORE, call_events },
	{ "Stop", "End the process as SIGTERM does.", nothing, "", 0, call_stop },
	{ 0 },
};

/* ── the description ── */

static const char description_head[] =
	"# Virtual disks served by one tapdisk process\n"
	"interface " MESSAGE_INTERFACE "\n"
	"\n"
	"# state: bits as tap-ctl(1) lists them; status: the same as a word; args: TYPE:PATH;\n"
	"# busy: the method under way, or \"\"; pauses: how many there were so far\n"
	"type Disk (\n"
	"  minor: int,\n  name: string,\n  state: int,\n  status: string,\n  reason: string,\n"
	"  args: ?string,\n  size: int,\n  read_only: bool,\n  busy: string,\n"
	"  pauses: int,\n  exports: []Export\n"
	")\n"
	"\n"
	"type Export (address: string, name: string)\n"
	"\n"
	"type Client (\n"
	"  address: string,\n  peer: string,\n  export: string,\n  in_flight: int,\n"
	"  bytes_in: int,\n  bytes_out: int,\n  requests: int,\n  tls: bool\n"
	")\n";

static const char description_tail[] =
	"\n"
	"# Why it was not done.  status: exit status of command lines, an errno number mostly;\n"
	"# code: its short name; text: a sentence\n"
	"error Failed (status: int, code: string, text: string)\n";

struct text {
	char *at;
	size_t room;
};

static void put(struct text *t, const char *what, const char *after)
{
	int length = snprintf(t->at, t->room, "%s%s", what, after);

	if (length > 0 && (size_t)length < t->room) {
		t->at += length;
		t->room -= (size_t)length;
	}
}

/* Each line of @comment behind "# ". */
static void put_comment(struct text *t, const char *comment)
{
	while (*comment) {
		size_t length = strcspn(comment, "\n");
		char line[128];

		snprintf(line, sizeof(line), "%.*s", (int)length, comment);
		put(t, "# ", line);
		put(t, "\n", "");
		comment += length + (comment[length] != 0);
	}
}

static void put_method(struct text *t, const struct method *m)
{
	static const char *const types[] = { "int", "string", "bool" };

	put(t, "\n", "");
	put_comment(t, m->comment);
	put(t, "method ", m->name);
	put(t, "(", "");
	for (const struct parameter *p = m->in; p->name; p++) {
		put(t, p == m->in ? "" : ", ", p->name);
		put(t, p->optional ? ": ?" : ": ", types[p->type]);
	}
	put(t, ") -> (", m->out);
	put(t, ")\n", "");
}

const char *methods_description(void)
{
	static char description[TEXT_BYTES];
	struct text t = { description, sizeof(description) };

	if (description[0])
		return description;
	put(&t, description_head, "");
	for (const struct method *m = methods; m->name; m++)
		put_method(&t, m);
	put(&t, description_tail, "");
	return description;
}
