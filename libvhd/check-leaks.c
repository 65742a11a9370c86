/* check-leaks.c - space that nobody names, and blocks that only the batmap remembers
 *
 * Leaked space is what a crash leaves: room for a block or more, between two
 * blocks or behind the last, that has storage but that no entry names.  It is
 * found from the sorted positions; of very many blocks only from their
 * number.  It is not repairable: it may be all that is left of a block whose entry was lost.
 */
#include "base/number.h"
#include "batmap.h"
#include "bitmap.h"
#include "check.h"
#include "error.h"
#include "plan.h"

struct leaks {
	struct check *c;
	uint64_t least;		 /* bytes: smaller gaps are alignment */
	uint64_t spare;		 /* bytes behind the metadata that are kept free on purpose */
	uint64_t keep, keep_end; /* room of two batmaps, used in turn */
	uint64_t data, data_end; /* where the file has storage, asked last */
	uint64_t first, bytes;
	int rc;
};

/* Nobody names [from, to): how much of it has storage? */
static void leak_piece(struct leaks *l, uint64_t from, uint64_t to)
{
	if (to < from || to - from < l->least || l->rc < 0)
		return;
	if (from < l->keep_end && to > l->keep) {
		leak_piece(l, from, l->keep);
		leak_piece(l, l->keep_end, to);
		return;
	}
	/* storage is given in pages: those at the edges belong to the neighbours */
	from = number_round_up(from, VHD_ALIGN);
	to = number_round_down(to, VHD_ALIGN);
	while (from < to) {
		if (from >= l->data_end) {
			l->rc = io_data(l->c->io, from, &l->data, &l->data_end);
			if (l->rc < 0 || l->data >= l->data_end)
				return;
		}
		from = number_max(from, l->data);
		if (from >= to)
			return;
		if (!l->bytes)
			l->first = from;
		l->bytes += number_min(to, l->data_end) - from;
		from = number_min(to, l->data_end);
	}
}

/* A gap between blocks, in which metadata may lie. */
static void leak_gap(struct leaks *l, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < l->c->range_count; i++) {
		const struct check_range *r = &l->c->ranges[i];

		if (from >= to || r->offset >= to)
			break;
		if (r->offset + r->length <= from)
			continue;
		leak_piece(l, from, r->offset);
		from = r->offset + r->length;
	}
	if (from >= l->keep && from < l->keep_end)
		from = l->keep_end;
	leak_piece(l, from + l->spare, to);
}

static void find_leaks(struct check *c, const struct check_placed *s, struct leaks *l)
{
	uint64_t stride = (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	/* the first gap holds the metadata; no block may lie before the table, so nothing there
	 * was lost by one */
	uint64_t at = number_max(VHD_FOOTER_BYTES, c->header.table_offset);

	l->least = stride;
	/* ours: the slot of a child, and the first footer, behind which blocks are placed; the
	 * place of the next batmap */
	if (footer_has_batmap(&c->footer)) {
		uint64_t map = (uint64_t)batmap_sectors(c->header.max_entries) * VHD_SECTOR;

		l->spare = VHD_FOOTER_BYTES +
			   (c->footer.type == VHD_TYPE_DIFFERENCING ? PLAN_SLOT_BYTES : 0);
		l->keep = batmap_header_offset(c->header.table_offset, c->header.max_entries) +
			  VHD_BATMAP_HEADER_BYTES;
		l->keep_end = l->keep + 2 * map;
	}
	if (s->counted_only) {
		/* at most this is padding: the page before each block */
		uint64_t named = s->sound * (stride + VHD_ALIGN);
		uint64_t span = c->data_end - (c->header.table_offset + 4ull * c->entries);

		l->first = c->header.table_offset;
		l->bytes = span > named ? span - named : 0;
		return;
	}
	for (size_t i = 0; i < s->count; i++) {
		uint64_t block = (uint64_t)s->list[i] * VHD_SECTOR;

		if (block > at)
			leak_gap(l, at, block);
		at = block + stride;
		l->spare = 0;
	}
	if (!c->io->device) /* there the footer is at the end, whatever is before it */
		leak_gap(l, number_max(at, c->data_end), c->end_offset);
}

/* Blocks that the batmap calls complete, and that are not there.  Where space is leaked as well it
 * may be the table that is wrong: the batmap is then all that remembers them. */
static void report_stale_bits(struct check *c, const struct check_placed *s, uint64_t leaked)
{
	bool lost = leaked >= (uint64_t)bitmap_stride(c->block_sectors) * VHD_SECTOR;
	struct vhd_finding f = { .code = -VHD_E_BATMAP,
				 .severity = VHD_DAMAGE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_BLOCK,
				 .offset = c->batmap_offset + s->stale_block / 8,
				 .block = s->stale_block,
				 .repairable = !lost };

	if (s->stale)
		check_report(c, &f, "the batmap calls it complete%s, but it is not allocated%s",
			     s->stale > 1 ? ", and others" : "",
			     lost ? "; space is leaked, too: the block table may have lost them" :
				    "");
}

int check_leaks(struct check *c, const struct check_placed *placed)
{
	struct leaks l = { .c = c };
	struct vhd_finding f = { .code = -VHD_E_LEAKED,
				 .severity = VHD_NOTE,
				 .has = VHD_HAS_OFFSET | VHD_HAS_VALUES };

	find_leaks(c, placed, &l);
	if (l.rc < 0)
		return error_system(c->err, l.rc, "read", c->io->name);
	c->result->leaked_bytes += l.bytes;
	report_stale_bits(c, placed, l.bytes);
	f.offset = l.first;
	f.found = l.bytes;
	if (l.bytes)
		check_report(c, &f,
			     "%llu bytes of space are leaked: no block uses them, no data is "
			     "missing",
			     (unsigned long long)l.bytes);
	return 0;
}
