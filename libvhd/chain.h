/* chain.h - an image and its parents, opened, locked, read and written as one
 *
 * images[0] is the leaf.  Finding parents (doc/format.md "Parents"): locators
 * first, relative before absolute (W2ru, MacX, Wi2r, then W2ku, MacX, Wi2k
 * as absolute POSIX paths), then the header's name in the child's directory;
 * the first candidate whose id is right wins; if candidates exist but none has the id:
 * VHD_E_PARENT_ID.  Confinement: openat2(RESOLVE_BENEATH) under the child's
 * (first the leaf's) directory or a root; see struct vhd_parents.
 */
#ifndef VHD_CHAIN_H
#define VHD_CHAIN_H

#include "image.h"
#include "lock.h"
#include "view.h"

/* Beside enum vhd_open_flags, for servers: see early_bitmaps of map.h. */
#define CHAIN_EARLY_BITMAPS (1u << 16)
/* A key may be given for a chain that is not encrypted. */
#define CHAIN_KEY_MAYBE (1u << 17)
/* No key is needed as long as only extents are asked for; encrypted data is refused when it is
 * to be read. */
#define CHAIN_SEALED (1u << 18)
/* With VHD_OPEN_WRITE: everything that could refuse it is asked, locks are taken, but nothing is
 * changed, and nothing may be written. */
#define CHAIN_DRY_RUN (1u << 19)

struct vhd_chain {
	unsigned depth;		   /* images opened */
	struct vhd_image **images; /* leaf first; each owned; io->name is the absolute path */
	bool complete;		   /* down to a base (not VHD_OPEN_NO_PARENTS) */
	struct vhd_view *view;	   /* of images[1..]; NULL until prepared */
	bool prepared;
	unsigned flags; /* enum vhd_open_flags */
	uint64_t cache_bytes;
	struct vhd_error warning; /* code 0: none.  E.g. one footer missing */
	bool locks_unsupported;
	struct vhd_key *key; /* counted; NULL: none */
};

/* vhd_open, vhd_close, vhd_read, vhd_write, vhd_flush, vhd_extents,
 * vhd_size, vhd_depth and vhd_layer_info of vhd.h are implemented here. */

/* Where is the parent of @image?  Its absolute path, found, opened and its id checked
 * but neither locked nor loaded.  @leaf_directory: absolute, for confinement.
 * @for_write: something will be written to it: confinement is strict.
 * Errors: VHD_E_PARENT_MISSING (the text lists what was tried),
 * VHD_E_PARENT_ID, VHD_E_PARENT_DENIED. */
VHD_MUST int chain_find_parent(struct vhd_image *image, const char *leaf_directory,
			       const struct vhd_parents *parents, bool for_write,
			       struct vhd_image **out, struct vhd_error *err);

/* The stored parent path of @image, unresolved (first usable locator, else
 * the header's name), as text.  -VHD_E_LOCATOR when there is none. */
VHD_MUST int chain_stored_parent(struct vhd_image *image, char *out, size_t room,
				 struct vhd_error *err);

/* Extents of whole sectors over all layers: as vhd_extents, in sectors. */
struct chain_ext {
	bool zero;
	unsigned layer; /* index into images */
	uint64_t sector, count, file_sector;
};
VHD_MUST int chain_lookup(struct vhd_chain *chain, uint64_t sector, uint64_t count,
			  struct chain_ext *out, int max, struct vhd_error *err);

/* Load what reading data needs: tables, the view.  Done by chain_lookup; for who wants the
 * errors earlier.  Encrypted images are refused here (VHD_E_ENCRYPTED). */
VHD_MUST int chain_prepare(struct vhd_chain *chain, struct vhd_error *err);

/* Tell the chain's warning, if there is one. */
void chain_warn(const struct vhd_chain *chain, const struct vhd_progress *progress);

/* Data of one layer: @length bytes from @file_offset in its file, which are those from @offset of
 * the disk.  Past the end of a raw disk: zeros to the end of its sector. */
VHD_MUST int chain_read_layer(struct vhd_chain *chain, unsigned layer, void *buf, size_t length,
			      uint64_t file_offset, uint64_t offset, struct vhd_error *err);

#endif
