/* duplicate-plan.c - what a copy looks like: its parent, its metadata, its key
 *
 *   source      key given for         the copy's data
 *   clear       nothing               as it is
 *   clear       the target            encrypted
 *   encrypted   nothing               as it is: the same ciphertext, nonce and hash
 *   encrypted   the target, the same  as it is
 *   encrypted   the source            clear
 *   encrypted   both                  encrypted anew
 *
 * A copy with a parent is a sibling of its source: it has the same parent, and as much of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "create.h"
#include "duplicate.h"
#include "error.h"
#include "path.h"
#include "snapshot.h"
#include "unlock.h"

static struct vhd_image *leaf_of(const struct duplicate *d)
{
	return d->chain->images[0];
}

/* ── keys ── */

/* Is @key what @img is encrypted with? */
static bool is_key_of(const struct vhd_image *img, const struct vhd_key *key)
{
	const struct vhd_batmap_header *h = &img->batmap_header;

	return image_is_encrypted(img) && crypt_matches(key, h->nonce, h->hash) == 1;
}

static int make_header(const struct vhd_key *key, struct vhd_batmap_header *out)
{
	int rc = crypt_nonce(out->nonce);

	out->keyhash = 1;
	return rc < 0 ? rc : vhd_key_hash(key, out->nonce, out->hash);
}

/* Chains have one key: a copy over encrypted parents must have theirs. */
static int check_parents(const struct duplicate *d, const struct vhd_key *key, bool clear,
			 struct vhd_error *err)
{
	for (unsigned i = 1; i < d->chain->depth; i++) {
		const struct vhd_image *img = d->chain->images[i];

		if (!image_is_encrypted(img) || (!clear && (!key || is_key_of(img, key))))
			continue;
		return error_set(err, -VHD_E_KEY,
				 "cannot copy '%s': its parent '%s' stays encrypted with its key; "
				 "convert the whole chain into one disk instead, then copy that",
				 leaf_of(d)->io->name, img->io->name);
	}
	return 0;
}

static int open_keys(struct duplicate *d, const struct vhd_copy_options *o,
		     struct vhd_batmap_header *key, struct vhd_error *err)
{
	struct vhd_image *img = leaf_of(d);
	int rc = 0;

	if (o->source_key) {
		rc = unlock_chain(&img, 1, o->source_key, 0, err);
		if (rc < 0)
			return rc;
		d->decrypt = img->crypt;
	}
	if (!o->key)
		return 0;
	rc = crypt_open(o->key, &d->own);
	if (!rc)
		rc = make_header(o->key, key);
	d->encrypt = d->own;
	return rc < 0 ? error_system(err, rc, "copy", img->io->name) : 0;
}

/* @key: of the copy; keyhash 0: clear. */
static int plan_keys(struct duplicate *d, const struct vhd_copy_options *o,
		     struct vhd_batmap_header *key, struct vhd_error *err)
{
	const struct vhd_image *img = leaf_of(d);
	bool same = image_is_encrypted(img) && !o->source_key &&
		    (!o->key || is_key_of(img, o->key));
	int rc;

	memset(key, 0, sizeof(*key));
	if (same) {
		*key = img->batmap_header;
		return 0;
	}
	if (image_is_encrypted(img) && !o->source_key)
		return error_set(err, -VHD_E_ENCRYPTED,
				 "cannot copy '%s': it is encrypted with another key; give that, "
				 "too: --source-key-file",
				 img->io->name);
	rc = check_parents(d, o->key, !o->key, err);
	return rc < 0 ? rc : open_keys(d, o, key, err);
}

/* ── the rest ── */

/* Room to grow stays, as far as the format reaches. */
static int make_plan(struct duplicate *d, struct plan_spec *spec, struct vhd_error *err)
{
	const struct vhd_image *img = leaf_of(d);
	uint64_t room = (uint64_t)img->header.max_entries * img->header.block_size;
	int rc;

	spec->max_size = number_max(number_min(room, VHD_SIZE_MAX), spec->size);
	rc = plan_make(spec, &d->plan, NULL);
	if (rc == 0)
		return 0;
	spec->max_size = 0;
	return plan_make(spec, &d->plan, err);
}

static int plan_sparse(struct duplicate *d, const char *destination,
		       const struct vhd_copy_options *o, struct vhd_error *err)
{
	const struct vhd_image *img = leaf_of(d);
	char relative[PATH_TEXT_MAX];
	struct vhd_batmap_header key;
	struct plan_spec spec = {
		.type = img->type,
		.size = number_round_up(img->size, VHD_SECTOR),
		.block_size = img->header.block_size,
		.timestamp = create_now(),
	};
	int rc = plan_keys(d, o, &key, err);

	if (rc < 0)
		return rc;
	create_id(spec.id);
	spec.key = key.keyhash ? &key : NULL;
	if (image_has_parent(img)) {
		rc = snapshot_relative_path(destination, d->chain->images[1]->io->name, relative,
					    sizeof(relative), err);
		memcpy(spec.parent_id, img->header.parent_uuid, VHD_UUID_BYTES);
		spec.parent_timestamp = img->header.parent_timestamp;
		spec.parent_path = relative;
	}
	if (!rc)
		rc = make_plan(d, &spec, err);
	if (rc < 0)
		error_prefix(err, "cannot copy to '%s'", destination);
	return rc;
}

/* Damage would be copied with the rest, and look sound. */
static int check_tables(const struct vhd_image *img, struct vhd_error *err)
{
	if (!img->bad_count)
		return 0;
	return error_at(err, -VHD_E_BAT_ENTRY, img->header.table_offset + img->bad[0] * 4ull,
			"cannot copy '%s': %u entries of its block table are wrong, the first is "
			"of block %u; see vhd-util check",
			img->io->name, img->bad_count, img->bad[0]);
}

int duplicate_plan(struct duplicate *d, const char *source, const char *destination,
		   const struct vhd_copy_options *o, struct vhd_error *err)
{
	struct vhd_open_options options = { .parents = o->parents };
	struct vhd_image *img;
	int rc;

	memset(d, 0, sizeof(*d));
	rc = vhd_open(source, &options, &d->chain, err);
	if (rc < 0)
		return rc;
	img = leaf_of(d);
	if (!footer_is_sparse(&img->footer)) {
		if (o->source_key)
			return unlock_chain(&img, 1, o->source_key, 0, err); /* says why not */
		return o->key ? error_set(err, -VHD_E_UNSUPPORTED,
					  "cannot encrypt '%s': a fixed image has no room for a "
					  "key hash; convert it to a dynamic one first",
					  source) :
				0;
	}
	rc = image_load(img, 0, err);
	if (!rc)
		rc = check_tables(img, err);
	return rc < 0 ? rc : plan_sparse(d, destination, o, err);
}

void duplicate_release(struct duplicate *d)
{
	crypt_put(d->own);
	vhd_close(d->chain, NULL);
}
