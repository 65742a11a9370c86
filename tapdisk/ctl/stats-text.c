/* stats-text.c - numbers of disks in the OpenMetrics text format
 *
 * A family of metrics stands together, with a line for each disk: so the
 * outer loop is over families.  Latencies are histograms whose bounds are powers of two of
 * microseconds, as the server counts them.
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"

static json_int_t number(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* A label's value: backslash, quote and line feed are escaped. */
static void put_escaped(const char *text)
{
	for (; text && *text; text++) {
		if (*text == '\n')
			fputs("\\n", stdout);
		else if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void put_labels(json_t *stats)
{
	printf("{pid=\"%lld\",minor=\"%lld\",disk=\"", (long long)number(stats, "pid"),
	       (long long)number(stats, "minor"));
	put_escaped(json_string_value(json_object_get(stats, "export")));
	putchar('"');
}

static void put_family(const char *name, const char *type, const char *help)
{
	printf("# TYPE tapdisk_%s %s\n# HELP tapdisk_%s %s\n", name, type, name, help);
}

/* A number of each disk, as a gauge or a counter. */
static void put_simple(json_t *all, const char *name, const char *type, const char *help,
		       const char *key)
{
	const char *suffix = strcmp(type, "counter") ? "" : "_total";
	json_t *stats;
	size_t k;

	put_family(name, type, help);
	json_array_foreach(all, k, stats)
	{
		printf("tapdisk_%s%s", name, suffix);
		put_labels(stats);
		printf("} %lld\n", (long long)number(stats, key));
	}
}

/* A counter of each operation of each disk. */
static void put_by_op(json_t *all, const char *name, const char *help, const char *key)
{
	json_t *stats, *op;
	const char *op_name;
	size_t k;

	put_family(name, "counter", help);
	json_array_foreach(all, k, stats)
	{
		json_object_foreach(json_object_get(stats, "ops"), op_name, op)
		{
			printf("tapdisk_%s_total", name);
			put_labels(stats);
			printf(",op=\"%s\"} %lld\n", op_name, (long long)number(op, key));
		}
	}
}

static void put_histogram(json_t *stats, const char *op_name, json_t *op)
{
	json_t *buckets = json_object_get(op, "latency_log2_us"), *count;
	unsigned long long sum = 0;
	size_t k;

	json_array_foreach(buckets, k, count)
	{
		sum += (unsigned long long)json_integer_value(count);
		printf("tapdisk_latency_seconds_bucket");
		put_labels(stats);
		printf(",op=\"%s\",le=\"%.6f\"} %llu\n", op_name, (double)(1ull << k) / 1e6, sum);
	}
	printf("tapdisk_latency_seconds_bucket");
	put_labels(stats);
	printf(",op=\"%s\",le=\"+Inf\"} %llu\n", op_name, sum);
	printf("tapdisk_latency_seconds_count");
	put_labels(stats);
	printf(",op=\"%s\"} %llu\n", op_name, sum);
	printf("tapdisk_latency_seconds_sum");
	put_labels(stats);
	printf(",op=\"%s\"} %.9f\n", op_name, (double)number(op, "total_ns") / 1e9);
}

void ctl_print_openmetrics(json_t *all)
{
	json_t *stats, *op;
	const char *op_name;
	size_t k;

	put_by_op(all, "requests", "Requests completed.", "count");
	put_by_op(all, "bytes", "Bytes of requests completed.", "bytes");
	put_by_op(all, "errors", "Requests that failed.", "errors");
	put_family("latency_seconds", "histogram", "Time from submission to completion.");
	json_array_foreach(all, k, stats)
		json_object_foreach(json_object_get(stats, "ops"), op_name, op)
			put_histogram(stats, op_name, op);
	put_simple(all, "requests_outstanding", "gauge", "Requests in flight.", "reqs_outstanding");
	put_simple(all, "requests_held", "gauge", "Requests held by a pause.", "held");
	put_simple(all, "state", "gauge", "State bits.", "state");
	put_simple(all, "size_bytes", "gauge", "Virtual size.", "size");
	put_simple(all, "retries", "counter", "Operations tried again.", "retries");
	put_simple(all, "stalls", "counter", "Times that the storage was waited for.", "stalls");
	put_simple(all, "flush_failures", "counter", "Flushes that failed.", "flush_failures");
	printf("# EOF\n");
}
