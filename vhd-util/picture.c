/* picture.c - the allocation of each layer of a chain, drawn in the terminal
 *
 *	 0 |  :#   .     | 12 %  leaf.vhd
 *	 1 |########:    | 61 %  base.vhd
 *	   |########:    | 65 %  all
 */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/path.h"
#include "picture.h"

#define SHADES	    5
#define WIDTH_MIN   20u
#define WIDTH_MAX   400u
#define EXTENTS_MAX 64

static const char *const ascii_shades[SHADES] = { " ", ".", ":", "+", "#" };
static const char *const block_shades[SHADES] = { " ", "░", "▒", "▓", "█" };

struct picture {
	unsigned columns;
	uint64_t sectors; /* of the disk */
	uint64_t *amount; /* owned; present sectors per column of the row being drawn */
	const char *const *shades;
	const char *border;
};

static unsigned terminal_width(void)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	uint64_t width;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	if (columns && number_parse(columns, &width) && width)
		return (unsigned)number_min(width, WIDTH_MAX);
	return 80;
}

static void choose_characters(struct picture *p)
{
	bool utf8;

	setlocale(LC_CTYPE, "");
	utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	p->shades = utf8 ? block_shades : ascii_shades;
	p->border = utf8 ? "│" : "|";
}

/* First sector of a column. */
static uint64_t column_start(const struct picture *p, unsigned column)
{
	return (uint64_t)((unsigned __int128)p->sectors * column / p->columns);
}

/* Count [sector, sector + count) as present. */
static void add(struct picture *p, uint64_t sector, uint64_t count)
{
	uint64_t end = number_min(sector + count, p->sectors);
	unsigned column;

	if (sector >= end)
		return;
	column = (unsigned)((unsigned __int128)sector * p->columns / p->sectors);
	for (; sector < end; column++) {
		uint64_t stop = number_min(end, column_start(p, column + 1));

		if (stop <= sector)
			continue;
		p->amount[column] += stop - sector;
		sector = stop;
	}
}

static void draw_row(struct picture *p, const char *label, const char *name)
{
	uint64_t total = 0;

	printf("%3s %s", label, p->border);
	for (unsigned k = 0; k < p->columns; k++) {
		uint64_t whole = column_start(p, k + 1) - column_start(p, k);
		unsigned shade = 0;

		total += p->amount[k];
		if (whole && p->amount[k] >= whole)
			shade = SHADES - 1;
		else if (whole && p->amount[k]) /* a trace is not nothing, a gap not all */
			shade = 1 + (unsigned)((double)p->amount[k] / (double)whole * (SHADES - 2));
		fputs(p->shades[shade], stdout);
	}
	printf("%s %3u %%  %s\n", p->border, (unsigned)((double)total * 100 / (double)p->sectors),
	       name);
	memset(p->amount, 0, p->columns * sizeof(*p->amount));
}

static int draw_layer(struct picture *p, struct vhd_image *image, unsigned place,
		      struct vhd_error *err)
{
	uint64_t sectors = image->size / VHD_SECTOR;
	struct map_ext ext[EXTENTS_MAX];
	char label[16], name[256];
	int rc = image->map || image->type == VHD_TYPE_RAW || image->type == VHD_TYPE_FIXED ?
			 0 :
			 image_load(image, 0, err);

	for (uint64_t sector = 0; rc >= 0 && sector < sectors;) {
		rc = image_lookup(image, sector, sectors - sector, ext, EXTENTS_MAX, err);
		for (int k = 0; k < rc; k++) {
			if (ext[k].kind == EXT_HERE)
				add(p, ext[k].sector, ext[k].count);
			sector = ext[k].sector + ext[k].count;
		}
	}
	if (rc < 0)
		return rc;
	snprintf(label, sizeof(label), "%u", place);
	draw_row(p, label, path_quote(path_base_name(image->io->name), name, sizeof(name)));
	return 0;
}

static int draw_all(struct picture *p, struct vhd_chain *chain, struct vhd_error *err)
{
	struct chain_ext ext[EXTENTS_MAX];

	for (uint64_t sector = 0; sector < p->sectors;) {
		int rc = chain_lookup(chain, sector, p->sectors - sector, ext, EXTENTS_MAX, err);

		if (rc < 0)
			return rc;
		for (int k = 0; k < rc; k++) {
			if (!ext[k].zero)
				add(p, ext[k].sector, ext[k].count);
			sector = ext[k].sector + ext[k].count;
		}
	}
	draw_row(p, "", "all");
	return 0;
}

int picture_print(struct vhd_chain *chain, struct vhd_error *err)
{
	CLEANUP_FREE uint64_t *amount = NULL;
	struct picture p = { .sectors = vhd_size(chain) / VHD_SECTOR };
	unsigned width = terminal_width(), aside = 14; /* label, borders, percent */
	size_t longest = 3;
	int rc = 0;

	for (unsigned k = 0; k < chain->depth; k++) {
		size_t length = strlen(path_base_name(chain->images[k]->io->name));

		longest = length > longest ? length : longest;
	}
	aside += (unsigned)(longest < 40 ? longest : 40);
	p.columns = width > aside + WIDTH_MIN ? width - aside : WIDTH_MIN;
	p.columns = p.columns < WIDTH_MAX ? p.columns : WIDTH_MAX;
	choose_characters(&p);
	amount = calloc(p.columns, sizeof(*amount));
	if (!amount)
		return error_system(err, -ENOMEM, "draw", chain->images[0]->io->name);
	p.amount = amount;
	for (unsigned k = 0; !rc && k < chain->depth; k++)
		rc = draw_layer(&p, chain->images[k], k, err);
	if (!rc && chain->depth > 1)
		rc = draw_all(&p, chain, err);
	return rc;
}
