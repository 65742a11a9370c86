/* fault.c - a disk that fails by rules, for tests of what is above it
 *
 *   fault:RULE[;RULE…],TYPE:PATH      RULE is OP[:KEY=VALUE…]
 *
 * OP: read, write, flush, trim, zero, any.  Keys: range=FROM-TO (bytes, sizes: 0-1M), nth=N (only the
 * Nth that matches), every=N, times=N (then no more); and what happens: err=EIO (a name or number),
 * delay=MILLISECONDS, torn=BYTES (a write: so many bytes of it reach the disk, then the error).
 * The first rule that applies counts.  Errors go to the client at once: the disk below is well.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "filter.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

#define RULES_MAX   32u
#define DELAYED_MAX 256u

struct rule {
	int op; /* enum request_op; -1: any */
	uint64_t from, to, nth, every, times, seen, applied;
	uint64_t delay_ns, torn;
	int err;
};

struct delayed {
	struct fault *fault;
	struct request *req;
	const struct rule *rule;
	uint64_t due_ns;
};

struct fault {
	struct filter filter; /* first */
	struct rule rules[RULES_MAX];
	unsigned count;
	struct loop_timer *timer;
	struct delayed delayed[DELAYED_MAX];
	unsigned delayed_count;
	struct request tear; /* the part of a torn write; one at a time */
	struct request *torn;
	int torn_err;
};

static struct fault *fault_of(struct disk *disk)
{
	return (struct fault *)disk;
}

/* ── rules ── */

static int parse_op(const char *word)
{
	static const char *const names[] = { [REQUEST_READ] = "read",
					     [REQUEST_WRITE] = "write",
					     [REQUEST_FLUSH] = "flush",
					     [REQUEST_TRIM] = "trim",
					     [REQUEST_ZERO] = "zero" };

	for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++)
		if (!strcmp(word, names[i]))
			return i;
	return !strcmp(word, "any") ? -1 : -2;
}

static bool parse_error(const char *value, int *err)
{
	static const struct {
		const char *name;
		int number;
	} names[] = { { "EIO", EIO },	  { "ENOSPC", ENOSPC },	      { "EROFS", EROFS },
		      { "EPERM", EPERM }, { "ETIMEDOUT", ETIMEDOUT }, { "EINVAL", EINVAL } };
	uint64_t number;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(value, names[i].name)) {
			*err = -names[i].number;
			return true;
		}
	}
	if (!number_parse(value, &number) || !number || number > 4095)
		return false;
	/* no storage says that of itself (engine.h) */
	*err = number == ECANCELED ? -EIO : -(int)number;
	return true;
}

static bool parse_key(struct rule *r, char *key, char *value)
{
	uint64_t number = 0;
	char *dash;

	if (!strcmp(key, "err"))
		return parse_error(value, &r->err);
	if (!strcmp(key, "range")) {
		dash = strchr(value, '-');
		if (!dash)
			return false;
		*dash = '\0';
		return number_parse_size(value, &r->from) && number_parse_size(dash + 1, &r->to) &&
		       r->from < r->to;
	}
	if (!number_parse_size(value, &number))
		return false;
	if (!strcmp(key, "nth"))
		r->nth = number;
	else if (!strcmp(key, "every"))
		r->every = number;
	else if (!strcmp(key, "times"))
		r->times = number;
	else if (!strcmp(key, "delay"))
		r->delay_ns = number * 1000000;
	else if (!strcmp(key, "torn"))
		r->torn = number_round_down(number, REQUEST_SECTOR);
	else
		return false;
	return true;
}

static bool parse_rule(struct rule *r, char *text)
{
	char *save, *word = strtok_r(text, ":", &save);

	*r = (struct rule){ .to = UINT64_MAX };
	r->op = word ? parse_op(word) : -2;
	if (r->op < -1)
		return false;
	while ((word = strtok_r(NULL, ":", &save))) {
		char *equals = strchr(word, '=');

		if (!equals)
			return false;
		*equals = '\0';
		if (!parse_key(r, word, equals + 1))
			return false;
	}
	if (r->torn && !r->err)
		r->err = -EIO;
	return r->err || r->delay_ns;
}

static int parse_rules(struct fault *f, const char *rules, size_t length, struct vhd_error *err)
{
	CLEANUP_FREE char *text = strndup(rules, length);
	char *save;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	for (char *one = strtok_r(text, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
		CLEANUP_FREE char *kept = strdup(one);

		if (f->count == RULES_MAX || !kept || !parse_rule(&f->rules[f->count], one))
			return error_set(
				err, -VHD_E_ARGUMENT,
				"fault: '%s' is no rule; one is like write:every=7:err=EIO "
				"or read:range=0-1M:delay=10",
				kept ? kept : "");
		f->count++;
	}
	return 0;
}

static struct rule *applies(struct fault *f, const struct request *req)
{
	for (unsigned i = 0; i < f->count; i++) {
		struct rule *r = &f->rules[i];

		if ((r->op >= 0 && r->op != (int)req->op) ||
		    (req->length && (req->offset >= r->to || req->offset + req->length <= r->from)))
			continue;
		r->seen++;
		if ((r->nth && r->seen != r->nth) || (r->every && r->seen % r->every) ||
		    (r->times && r->applied >= r->times))
			continue;
		r->applied++;
		return r;
	}
	return NULL;
}

/* ── what happens ── */

static void fail(struct fault *f, struct request *req, const struct rule *r)
{
	if (!r->err) {
		filter_pass(&f->filter, req);
	} else if (r->torn && req->op == REQUEST_WRITE && r->torn < req->length && !f->torn) {
		f->torn = req;
		f->torn_err = r->err;
		f->tear = (struct request){ .op = REQUEST_WRITE,
					    .offset = req->offset,
					    .length = r->torn,
					    .buf = req->buf };
		filter_pass(&f->filter, &f->tear);
	} else {
		disk_complete(&f->filter.disk, req, r->err);
	}
}

static void answered(struct filter *filter, struct request *req, int err)
{
	struct fault *f = (struct fault *)filter;

	if (req == &f->tear) {
		req = f->torn;
		f->torn = NULL;
		err = err == -ECANCELED ? err : f->torn_err;
	}
	disk_complete(&filter->disk, req, err);
}

static void set_timer(struct fault *f)
{
	uint64_t now = loop_now_ns(f->filter.disk.loop), first = UINT64_MAX;

	for (unsigned i = 0; i < f->delayed_count; i++)
		first = number_min(first, f->delayed[i].due_ns);
	if (first != UINT64_MAX)
		loop_timer_set(f->timer, first > now ? first - now : 0);
}

static void due(void *owner)
{
	struct fault *f = owner;
	uint64_t now = loop_now_ns(f->filter.disk.loop);

	for (unsigned i = 0; i < f->delayed_count;) {
		struct delayed d = f->delayed[i];

		if (d.due_ns > now) {
			i++;
			continue;
		}
		f->delayed[i] = f->delayed[--f->delayed_count];
		fail(f, d.req, d.rule);
	}
	set_timer(f);
}

static void submit(struct disk *disk, struct request *req)
{
	struct fault *f = fault_of(disk);
	const struct rule *r = applies(f, req);

	if (!r) {
		filter_pass(&f->filter, req);
	} else if (!r->delay_ns || f->delayed_count == DELAYED_MAX) {
		fail(f, req, r);
	} else {
		f->delayed[f->delayed_count++] =
			(struct delayed){ f, req, r, loop_now_ns(disk->loop) + r->delay_ns };
		set_timer(f);
	}
}

/* ── life ── */

static int start(struct disk *disk, struct vhd_error *err)
{
	struct fault *f = fault_of(disk);
	int rc = loop_timer_open(disk->loop, due, f, &f->timer);

	if (rc < 0)
		return error_set(err, rc, "out of memory");
	return filter_start(disk, err);
}

static void stop(struct disk *disk)
{
	struct fault *f = fault_of(disk);

	loop_timer_close(f->timer);
	f->timer = NULL;
	filter_stop(disk);
}

static void close_disk(struct disk *disk)
{
	struct fault *f = fault_of(disk);

	filter_close(&f->filter);
	free(f);
}

static const struct disk_ops fault_ops = {
	.name = "fault",
	.start = start,
	.submit = submit,
	.abort = filter_abort,
	.reopen_begin = filter_reopen_begin,
	.reopen = filter_reopen,
	.reopen_end = filter_reopen_end,
	.is_idle = filter_is_idle,
	.quiesce = filter_quiesce,
	.park = filter_park,
	.stop = stop,
	.close = close_disk,
	.layers = filter_layers,
};

int fault_disk_open(const char *argument, const struct disk_params *params, struct disk **out,
		    struct vhd_error *err)
{
	struct fault *f = calloc(1, sizeof(*f));
	size_t own = 0;
	int rc;

	if (!f)
		return error_system(err, -ENOMEM, "open", argument);
	f->filter.disk.ops = &fault_ops;
	f->filter.answered = answered;
	rc = filter_open(&f->filter, "fault", argument, params, &own, err);
	if (!rc)
		rc = parse_rules(f, argument, own, err);
	if (rc < 0) {
		close_disk(&f->filter.disk);
		return rc;
	}
	*out = &f->filter.disk;
	return 0;
}
