/* key.c - vhd_key_info, vhd_key_check, vhd_key_set: the key hash of an image
 *
 * It lies in the batmap's header: one sector, written whole and synced, so that a crash leaves the
 * old one or the new one.  The batmap itself is not touched.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "error.h"
#include "io-file.h"
#include "lock.h"
#include "siblings.h"
#include "unlock.h"

#define LOCK_WAIT_MS 5000

static int open_image(const char *path, bool write, struct vhd_image **out, struct vhd_error *err)
{
	struct vhd_io *io = NULL;
	int rc = io_file_open(path, write ? IO_FILE_WRITE : 0, &io, err);

	if (rc < 0)
		return rc;
	if (write)
		rc = lock_take(io, LOCK_SET, NULL, LOCK_WAIT_MS, NULL, err);
	if (!rc)
		rc = image_open(io, write ? 0 : IMAGE_PEEK | IMAGE_ALLOW_POISONED, out, err);
	if (rc < 0)
		io_close(io);
	return rc;
}

int vhd_key_info(const char *path, struct vhd_key_info *out, struct vhd_error *err)
{
	struct vhd_image *img;
	int rc = open_image(path, false, &img, err);

	if (rc < 0)
		return rc;
	memset(out, 0, sizeof(*out));
	out->encrypted = image_is_encrypted(img);
	if (out->encrypted) {
		memcpy(out->nonce, img->batmap_header.nonce, sizeof(out->nonce));
		memcpy(out->hash, img->batmap_header.hash, sizeof(out->hash));
	}
	image_close(img);
	return 0;
}

int vhd_key_check(const char *path, const struct vhd_key *key, struct vhd_error *err)
{
	struct vhd_image *img;
	int rc = open_image(path, false, &img, err);

	if (rc < 0)
		return rc;
	if (image_is_encrypted(img))
		rc = unlock_check(img, key, err);
	else
		rc = error_set(err, -VHD_E_KEY,
			       "cannot check the key of '%s': it has none, its data is not "
			       "encrypted",
			       path);
	image_close(img);
	return rc;
}

/* A clear child of an encrypted image cannot be read.  One elsewhere is not known of: see the manual. */
static int refuse_clear_child(struct vhd_image *img, struct vhd_error *err)
{
	struct sibling child;

	if (siblings_find_clear(img, &child, NULL) != 1)
		return 0;
	return error_set(err, -VHD_E_KEY,
			 "cannot set the key of '%s': its child '%s' has data that is not "
			 "encrypted, and could not be read any more; make an encrypted copy of "
			 "that: vhd-util copy -k",
			 img->io->name, child.path);
}

/* What is there already would be taken for ciphertext.  @force: it is that. */
static int refuse(struct vhd_image *img, bool force, struct vhd_error *err)
{
	const char *name = img->io->name;
	int rc;

	if (!img->has_batmap || (img->problems & IMAGE_BATMAP_BAD))
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot set the key of '%s': it has no sound batmap, whose header "
				 "holds the key's hash",
				 name);
	if (img->problems & IMAGE_FOOTERS_DIFFER)
		return error_set(err, -VHD_E_FOOTERS_DIFFER,
				 "cannot set the key of '%s': its two footers contradict each "
				 "other; see vhd-util check, then repair",
				 name);
	rc = image_load(img, 0, err);
	if (rc < 0)
		return rc;
	if (img->totals.allocated && image_is_encrypted(img))
		return error_set(err, -VHD_E_KEY,
				 "cannot set the key of '%s': it has data and a key, which is that "
				 "of its data; make a copy with another: vhd-util copy -k",
				 name);
	if ((img->totals.allocated || img->bad_count) && !force)
		return error_set(
			err, -VHD_E_KEY,
			"cannot set the key of '%s': it has data, which would be taken "
			"for ciphertext; make an encrypted copy: vhd-util copy -k; or, if it "
			"is ciphertext of this key and only the hash was lost: --force",
			name);
	return refuse_clear_child(img, err);
}

static int make_hash(const struct vhd_key_options *o, struct vhd_batmap_header *h)
{
	int rc = 0;

	h->keyhash = 1;
	if (o->nonce)
		memcpy(h->nonce, o->nonce, sizeof(h->nonce));
	else if (o->hash)
		memset(h->nonce, 0, sizeof(h->nonce));
	else
		rc = crypt_nonce(h->nonce);
	if (!rc && o->key)
		rc = vhd_key_hash(o->key, h->nonce, h->hash);
	else if (!rc)
		memcpy(h->hash, o->hash, sizeof(h->hash));
	return rc;
}

static int store(struct vhd_image *img, struct vhd_error *err)
{
	int rc;

	batmap_encode(&img->batmap_header, img->batmap_raw);
	rc = io_write(img->io, img->batmap_raw, sizeof(img->batmap_raw), img->batmap_header_at);
	if (!rc)
		rc = io_sync(img->io);
	return rc < 0 ? error_system(err, rc, "write the key hash of", img->io->name) : 0;
}

int vhd_key_set(const char *path, const struct vhd_key_options *o, struct vhd_error *err)
{
	struct vhd_image *img;
	int rc;

	if (!o->key == !o->hash)
		return error_set(err, -VHD_E_ARGUMENT, "give a key, or the hash of one");
	rc = open_image(path, true, &img, err);
	if (rc < 0)
		return rc;
	rc = refuse(img, o->force, err);
	if (!rc) {
		rc = make_hash(o, &img->batmap_header);
		if (rc < 0)
			error_system(err, rc, "make a key hash for", path);
	}
	if (!rc && !o->dry_run)
		rc = store(img, err);
	image_close(img);
	return rc;
}
