/* unlock.c - comparing keys with what images say of theirs */
#include "unlock.h"

#include <string.h>

#include "error.h"

#define KEYHASH_KNOWN 1 /* the only scheme there is */

int unlock_check(const struct vhd_image *img, const struct vhd_key *key, struct vhd_error *err)
{
	const struct vhd_batmap_header *h = &img->batmap_header;
	int rc;

	if (h->keyhash != KEYHASH_KNOWN)
		return error_set(err, -VHD_E_UNSUPPORTED,
				 "cannot read '%s': it is encrypted in a way that is not known "
				 "(%u)",
				 img->io->name, h->keyhash);
	rc = crypt_matches(key, h->nonce, h->hash);
	if (rc < 0)
		return error_system(err, rc, "check the key of", img->io->name);
	return rc ? 0 :
		    error_set(err, -VHD_E_KEY,
			      "cannot read '%s': the key is not the one it is encrypted with; give "
			      "the right key file",
			      img->io->name);
}

static int open_crypt(struct vhd_image *img, const struct vhd_key *key, struct vhd_error *err)
{
	int rc = unlock_check(img, key, err);

	if (rc < 0 || img->crypt)
		return rc;
	rc = crypt_open(key, &img->crypt);
	return rc < 0 ? error_system(err, rc, "open", img->io->name) : 0;
}

int unlock_chain(struct vhd_image *const *images, unsigned count, const struct vhd_key *key,
		 unsigned flags, struct vhd_error *err)
{
	const char *clear = NULL; /* an image that is */
	int rc = 0;

	if (key && !image_is_encrypted(images[0]) && !(flags & UNLOCK_CLEAR_TOO))
		return error_set(err, -VHD_E_KEY,
				 "cannot open '%s' with a key: it is not encrypted, or not any "
				 "more; open it without one if that is right",
				 images[0]->io->name);
	for (unsigned i = 0; i < count && !rc; i++) {
		const char *name = images[i]->io->name;

		if (!image_is_encrypted(images[i]))
			clear = name;
		else if (!key)
			rc = error_set(err, -VHD_E_ENCRYPTED,
				       "cannot read '%s': its data is encrypted, and no key was "
				       "given; give its key file",
				       name);
		else if (clear)
			rc = error_set(err, -VHD_E_KEY,
				       "cannot read '%s': its parent '%s' is encrypted, and it is "
				       "not; what it means is not known",
				       clear, name);
		else
			rc = open_crypt(images[i], key, err);
	}
	return rc;
}

static int both_match(const struct vhd_image *a, const struct vhd_image *b,
		      const struct vhd_key *key, struct vhd_error *err)
{
	int rc = unlock_check(a, key, err);

	return rc < 0 ? rc : unlock_check(b, key, err);
}

int unlock_same(const struct vhd_image *a, const struct vhd_image *b, const struct vhd_key *key,
		struct vhd_error *err)
{
	const struct vhd_batmap_header *x = &a->batmap_header, *y = &b->batmap_header;

	if (image_is_encrypted(a) != image_is_encrypted(b))
		return error_set(err, -VHD_E_ENCRYPTED,
				 "'%s' is encrypted and '%s' is not: its data cannot go there as "
				 "it is",
				 (image_is_encrypted(a) ? a : b)->io->name,
				 (image_is_encrypted(a) ? b : a)->io->name);
	if (!image_is_encrypted(a))
		return 0;
	if (key)
		return both_match(a, b, key, err);
	if (x->keyhash == y->keyhash && !memcmp(x->nonce, y->nonce, sizeof(x->nonce)) &&
	    !memcmp(x->hash, y->hash, sizeof(x->hash)))
		return 0;
	return error_set(err, -VHD_E_ENCRYPTED,
			 "'%s' and '%s' do not show the same key hash; if their key is the same, "
			 "give its key file",
			 a->io->name, b->io->name);
}
