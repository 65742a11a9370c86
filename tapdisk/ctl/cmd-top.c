/* cmd-top.c - tap-ctl top: a live table of all disks
 *
 * Two samples make a row: rates are their differences.  On a terminal the table is drawn
 * again every interval, until Ctrl-C; else it is printed --count times (default once).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/print.h"
#include "ctl.h"

static volatile sig_atomic_t stop_asked;

static void on_stop(int number)
{
	(void)number;
	stop_asked = 1;
}

static json_int_t number(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static json_t *find(json_t *all, json_t *like)
{
	json_t *stats;
	size_t k;

	json_array_foreach(all, k,
			   stats) if (number(stats, "pid") == number(like, "pid") &&
				      number(stats, "minor") == number(like, "minor")) return stats;
	return NULL;
}

struct rates {
	double iops, mib, latency_us;
};

/* Of one operation between two samples; @before may be NULL. */
static struct rates rates_of(json_t *before, json_t *now, const char *op, double seconds)
{
	json_t *a = json_object_get(json_object_get(before, "ops"), op);
	json_t *b = json_object_get(json_object_get(now, "ops"), op);
	double count = (double)(number(b, "count") - number(a, "count"));
	double bytes = (double)(number(b, "bytes") - number(a, "bytes"));
	double ns = (double)(number(b, "total_ns") - number(a, "total_ns"));

	return (struct rates){
		.iops = count / seconds,
		.mib = bytes / seconds / (1 << 20),
		.latency_us = count > 0 ? ns / count / 1000 : 0,
	};
}

static void print_table(json_t *before, json_t *now, double seconds)
{
	json_t *stats;
	size_t k;

	printf("%8s %5s %-16s %-9s %8s %8s %8s %8s %8s %8s %4s\n", "PID", "MINOR", "NAME", "STATUS",
	       "r/s", "w/s", "rMiB/s", "wMiB/s", "r us", "w us", "QD");
	json_array_foreach(now, k, stats)
	{
		json_t *old = find(before, stats);
		struct rates r = rates_of(old, stats, "read", seconds);
		struct rates w = rates_of(old, stats, "write", seconds);

		printf("%8lld %5lld %-16.16s %-9.9s %8.0f %8.0f %8.1f %8.1f %8.0f %8.0f %4lld\n",
		       (long long)number(stats, "pid"), (long long)number(stats, "minor"),
		       json_string_value(json_object_get(stats, "export")),
		       json_string_value(json_object_get(stats, "status")), r.iops, w.iops, r.mib,
		       w.mib, r.latency_us, w.latency_us,
		       (long long)number(stats, "reqs_outstanding"));
	}
}

static double seconds_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

static void show(const struct target *target, double interval, uint64_t count, bool live)
{
	json_t *before = ctl_stats_all(target);

	for (uint64_t k = 0; !stop_asked && (!count || k < count); k++) {
		struct timespec from, nap = { .tv_sec = (time_t)interval };
		json_t *now;

		clock_gettime(CLOCK_MONOTONIC, &from);
		nap.tv_nsec = (long)((interval - (double)nap.tv_sec) * 1e9);
		if (nanosleep(&nap, NULL) && stop_asked)
			break;
		now = ctl_stats_all(target);
		if (live)
			fputs("\033[H\033[J", stdout);
		print_table(before, now, seconds_since(&from));
		json_decref(before);
		before = now;
		if (fflush(stdout) || print_failed())
			break;
	}
	json_decref(before);
}

static int run_top(struct arguments *args)
{
	struct sigaction stop = { .sa_handler = on_stop };
	bool live = isatty(STDOUT_FILENO) == 1;
	uint64_t interval_ms = 1000, count = live ? 0 : 1;
	struct target target;
	int status;

	if (arguments_number(args, "interval", &interval_ms) < 0 ||
	    arguments_number(args, "count", &count) < 0)
		return EINVAL;
	if (interval_ms < 10 || interval_ms > 3600000)
		return usage_error("--interval: 10 to 3600000 milliseconds");
	status = target_open(args, 0, &target);
	if (status)
		return status;
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	show(&target, (double)interval_ms / 1000, count, live);
	return 0;
}

static const struct option_spec top_options[] = {
	{ 'p', "pid", "PID", "only this tapdisk" },
	{ 'm', "minor", "N", "only this disk" },
	{ 0, "interval", "MS", "milliseconds between two tables (default 1000)" },
	{ 0, "count", "N", "end after so many tables (default: on a terminal none, else 1)" },
	OPTION_RUN_DIR,
	{ 0 },
};

const struct command command_top = {
	.name = "top",
	.summary = "a live table of all disks",
	.operands = "",
	.options = top_options,
	.run = run_top,
};
