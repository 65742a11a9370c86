/* stats.c - counts and latencies of requests */
#include "vbd-private.h"

/* The bucket of @ns: below 2^i microseconds; the last takes the rest. */
static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned i = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return i < VBD_LATENCY_BUCKETS ? i : VBD_LATENCY_BUCKETS - 1;
}

void stats_record(struct vbd_stats *stats, const struct request *req, uint64_t now_ns)
{
	struct vbd_op_stats *s = &stats->op[req->op];
	uint64_t ns = now_ns - req->started_ns;

	s->count++;
	if (req->err)
		s->errors++;
	else
		s->bytes += req->length;
	s->total_ns += ns;
	if (ns > s->max_ns)
		s->max_ns = ns;
	s->latency[bucket_of(ns)]++;
}
