/* vhd.h - VHD images: open, read, write, make, merge, check
 *
 * The one public header of libvhd.  All functions return 0 (or a count) on
 * success and a negative code on failure: -errno for what the system said,
 * -VHD_E_* for what is wrong with an image.  Where a struct vhd_error is
 * taken it may be NULL; filled only on failure, it says where and what.
 *
 * Handles are not to be used from two threads at once; different handles are
 * independent.  The library never prints, never exits and keeps no global
 * state.  Offsets and lengths are bytes unless a name says otherwise.
 */
#ifndef VHD_H
#define VHD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VHD_API	 __attribute__((visibility("default")))
#define VHD_MUST __attribute__((warn_unused_result))

/* ── errors ──────────────────────────────────────────────────────────────── */

enum vhd_errnum {
	VHD_E_FIRST = 10000,
	VHD_E_NOT_VHD = VHD_E_FIRST, /* no footer, at either end */
	VHD_E_FOOTER_CHECKSUM,	     /* footer present, checksum wrong */
	VHD_E_FOOTER_FIELD,	     /* a footer field has an impossible value */
	VHD_E_FOOTERS_DIFFER,	     /* two valid footers that disagree */
	VHD_E_FOOTER_MISSING,	     /* one of the two footers is missing or bad */
	VHD_E_HEADER_COOKIE,	     /* no cxsparse header where the footer says */
	VHD_E_HEADER_CHECKSUM,
	VHD_E_HEADER_FIELD,
	VHD_E_BLOCK_SIZE,    /* block size outside 4 KiB .. 64 MiB or no power of two */
	VHD_E_BAT_PLACE,     /* block table outside the file or over other metadata */
	VHD_E_BAT_ENTRY,     /* entry outside the data area */
	VHD_E_BAT_OVERLAP,   /* two blocks claim the same space */
	VHD_E_BITMAP,	     /* bitmap unreadable or contradicting the data */
	VHD_E_BATMAP,	     /* batmap header or map wrong */
	VHD_E_LOCATOR,	     /* parent locator wrong */
	VHD_E_TRUNCATED,     /* file ends before data that it names */
	VHD_E_TRAILING,	     /* bytes after the footer */
	VHD_E_UNSUPPORTED,   /* valid, but a version or type not handled */
	VHD_E_SPLIT,	     /* split image (.v01 ...) */
	VHD_E_ENCRYPTED,     /* data is encrypted and no key was given */
	VHD_E_POISONED,	     /* v_poison: a journalled operation is under way */
	VHD_E_HIDDEN,	     /* hidden node used as a leaf */
	VHD_E_COALESCING,    /* half merged: usable through its child only */
	VHD_E_BUSY,	     /* locked by somebody else */
	VHD_E_SHARED_PARENT, /* another child uses this parent */
	VHD_E_PARENT_MISSING,
	VHD_E_PARENT_ID,     /* parent found, but it is another image */
	VHD_E_PARENT_DENIED, /* parent outside the allowed directories */
	VHD_E_CYCLE,	     /* an image is its own ancestor */
	VHD_E_TOO_DEEP,	     /* chain longer than allowed */
	VHD_E_LIMIT,	     /* chain longer than the caller's limit */
	VHD_E_RANGE,	     /* beyond the end of the disk */
	VHD_E_TOO_BIG,	     /* beyond what the format reaches */
	VHD_E_NAME,	     /* text cannot be represented */
	VHD_E_NOT_FILE,	     /* neither a regular file nor a block device */
	VHD_E_ARGUMENT,	     /* an option's value makes no sense */
	VHD_E_DIFFERENT,     /* compare: contents differ */
	VHD_E_AZURE,	     /* a target platform would refuse this image */
	VHD_E_KEY,	     /* the wrong key, or none that can be used */
	VHD_E_DELTA,	     /* no delta, or corrupted on its way */
	VHD_E_JOURNAL,	     /* resize journal damaged, or of another image */
	VHD_E_ARCHIVE,	     /* no archive of a chain, or corrupted on its way */
	VHD_E_LEAKED,	     /* space that nothing refers to */
	VHD_E_CANCELLED,     /* the caller's progress function said stop */
	VHD_E_LAST = VHD_E_CANCELLED,
};

enum vhd_error_has {
	VHD_HAS_OFFSET = 1 << 0,
	VHD_HAS_VALUES = 1 << 1, /* expected and found */
};

struct vhd_error {
	int code;	   /* as returned: negative */
	unsigned has;	   /* enum vhd_error_has */
	uint64_t offset;   /* in the file */
	uint64_t expected; /* values as read, or sizes */
	uint64_t found;
	char text[1024]; /* one line: names the file, the fact and the next step */
};

/* One sentence for a code; static storage. */
VHD_API const char *vhd_strerror(int code);
/* A short stable name for a code, "bat-entry", "ENOENT"; static storage. */
VHD_API const char *vhd_error_name(int code);
/* The exit status (an errno number) that command line tools use for a code. */
VHD_API int vhd_exit_status(int code);
VHD_API const char *vhd_version(void);

/* ── common ──────────────────────────────────────────────────────────────── */

enum vhd_type {
	VHD_TYPE_RAW = 0, /* no footer: only as a parent or in conversions */
	VHD_TYPE_FIXED = 2,
	VHD_TYPE_DYNAMIC = 3,
	VHD_TYPE_DIFFERENCING = 4,
};

struct vhd_progress {
	/* Called from time to time during long work; return non-zero to stop it.  May be NULL. */
	int (*step)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
	/* Something is odd about a source that is read all the same (one of two footers
	 * missing): called at most once for each source.  May be NULL. */
	void (*warn)(void *arg, const struct vhd_error *warning);
};

/* Where parents may be.  Zeroed: no roots, default confinement. */
struct vhd_parents {
	const char *const *roots; /* NULL-terminated directories, or NULL */
	bool beneath_only;	  /* without roots: only beneath the leaf's directory */
};

/* The key of encrypted images: counted, never shown; the last put wipes it.  See
 * vhd_key_set and what follows it. */
struct vhd_key;
/* Reads @fd to its end: 32 bytes (AES-128-XTS) or 64 (AES-256-XTS).  @name: for errors.
 * -VHD_E_KEY.  Who holds a key should not leave core dumps: libcrypto's own copies are in them. */
VHD_API VHD_MUST int vhd_key_read(int fd, const char *name, struct vhd_key **out,
				  struct vhd_error *err);
VHD_API struct vhd_key *vhd_key_get(struct vhd_key *key); /* one more user; returns it */
VHD_API void vhd_key_put(struct vhd_key *key);		  /* NULL is fine */
VHD_API unsigned vhd_key_bits(const struct vhd_key *key); /* 256 or 512 */

/* ── chains: an image with all its parents, as one disk ──────────────────── */

enum vhd_open_flags {
	VHD_OPEN_WRITE = 1 << 0,      /* the leaf may be written */
	VHD_OPEN_NO_PARENTS = 1 << 1, /* this image alone; reading what is below fails */
	VHD_OPEN_NO_LOCK = 1 << 2,    /* peek: take no locks, change nothing */
	VHD_OPEN_FORCE = 1 << 3,      /* hidden leaf, half-merged parent: go on */
	VHD_OPEN_RAW = 1 << 4,	      /* the file is a raw disk */
	VHD_OPEN_DIRECT = 1 << 5,     /* O_DIRECT where the file system can */
};

struct vhd_open_options {
	unsigned flags; /* enum vhd_open_flags */
	struct vhd_parents parents;
	uint64_t cache_bytes; /* bound for metadata in memory; 0: 16 MiB */
	/* Of an encrypted leaf and its encrypted parents, all of which it must fit (-VHD_E_KEY; not
	 * encrypted at all: likewise).  Without it reading them fails with -VHD_E_ENCRYPTED. */
	struct vhd_key *key;
};

struct vhd_chain;

VHD_API VHD_MUST int vhd_open(const char *path, const struct vhd_open_options *options,
			      struct vhd_chain **out, struct vhd_error *err);
/* Commits what was written, restores the leaf's shape and closes everything.
 * The handle is gone whatever is returned.  NULL is fine. */
VHD_API int vhd_close(struct vhd_chain *chain, struct vhd_error *err);

VHD_API uint64_t vhd_size(const struct vhd_chain *chain);
VHD_API unsigned vhd_depth(const struct vhd_chain *chain); /* base alone: 1 */

/* Any alignment.  Beyond the end: VHD_E_RANGE, nothing is done. */
VHD_API VHD_MUST int vhd_read(struct vhd_chain *chain, void *buf, size_t length, uint64_t offset,
			      struct vhd_error *err);
VHD_API VHD_MUST int vhd_write(struct vhd_chain *chain, const void *buf, size_t length,
			       uint64_t offset, struct vhd_error *err);
/* All writes that returned before are durable when this returns 0. */
VHD_API VHD_MUST int vhd_flush(struct vhd_chain *chain, struct vhd_error *err);

enum vhd_extent_kind { VHD_EXTENT_DATA, VHD_EXTENT_ZERO };
struct vhd_extent {
	uint64_t offset, length; /* on the virtual disk */
	enum vhd_extent_kind kind;
	unsigned depth;	      /* 0 = leaf; for zeros: meaningless */
	uint64_t file_offset; /* of the data, in that layer's file */
};
/* Extents from @offset on, at most @max, covering at most @length; neighbours
 * of one kind are not merged across blocks.  Returns their number (> 0). */
VHD_API VHD_MUST int vhd_extents(struct vhd_chain *chain, uint64_t offset, uint64_t length,
				 struct vhd_extent *out, int max, struct vhd_error *err);

struct vhd_info {
	enum vhd_type type;
	const char *path; /* valid while the chain is open */
	uint64_t size;	  /* virtual */
	uint64_t file_size;
	uint64_t used_size;  /* end of data + footer */
	uint32_t block_size; /* 0 for fixed and raw */
	uint64_t allocated_blocks, total_blocks;
	char creator[5];
	uint32_t creator_version;
	uint8_t id[16], parent_id[16];
	int64_t created; /* Unix seconds */
	bool hidden;
};
/* @layer 0 is the leaf. */
VHD_API VHD_MUST int vhd_layer_info(struct vhd_chain *chain, unsigned layer, struct vhd_info *out,
				    struct vhd_error *err);

/* ── scan: many images ───────────────────────────────────────────────────── */

/* What the scan asks for: one more image.  @name is copied. */
struct vhd_scan_name {
	const char *name; /* path */
	bool raw;	  /* a raw disk: no footer is looked for */
	void *cookie;	  /* handed back with its image */
};
/* One image as found.  Texts are valid during the call. */
struct vhd_scan_image {
	const char *name; /* as given */
	void *cookie;
	const char *path;	       /* its real one; NULL when it could not be opened */
	const struct vhd_error *error; /* NULL: sound as far as footers and headers tell; else
					 * only name and path are filled in */
	enum vhd_type type;
	uint64_t size; /* virtual */
	uint64_t file_size;
	uint64_t device, inode; /* which file it is; inode 0: a block device */
	bool hidden, has_marker, has_keyhash;
	uint8_t marker, keyhash[32];
	uint8_t id[16], parent_id[16]; /* zeros: none, or a raw parent */
	bool raw_parent;
	const char *parent; /* its path where it was found, else as stored; NULL: has none */
	const struct vhd_error *parent_error; /* why it was not found; NULL: found, or not sought */
	uint64_t parent_device, parent_inode; /* of the one found */
};
struct vhd_scan_options {
	bool brief;	  /* parents are not sought: the name in the header is told */
	unsigned threads; /* 0: as many as there are processors */
	struct vhd_parents parents;
	/* The next name, false: none now.  Asked again after each image: what that one names may be
	 * added. */
	bool (*next)(void *arg, struct vhd_scan_name *out);
	/* Called for each image in the order of the names, in the caller's thread.  Anything but
	 * 0 ends the scan and is returned. */
	int (*image)(void *arg, const struct vhd_scan_image *image);
	void *arg;
};
/* Looks at any number of images, several at a time, without locks; memory does not grow
 * with their number.  Images at fault are reported, not failures. */
VHD_API VHD_MUST int vhd_scan(const struct vhd_scan_options *options, struct vhd_error *err);

/* ── operations on files ─────────────────────────────────────────────────── */

struct vhd_create_options {
	enum vhd_type type;	      /* VHD_TYPE_FIXED or VHD_TYPE_DYNAMIC */
	uint64_t size;		      /* virtual bytes, a multiple of 512 */
	uint64_t max_size;	      /* room for metadata up to this size; 0: none */
	uint32_t block_size;	      /* 0: 2 MiB */
	const char *creator;	      /* 4 characters; NULL: "tap" with batmap */
	bool force;		      /* replace what is there */
	bool reserve;		      /* fixed: allocate every byte now */
	const uint8_t *id;	      /* 16 bytes; NULL: a random one */
	bool dry_run;		      /* all checks, but change nothing */
	struct vhd_progress progress; /* of reserving */
};
VHD_API VHD_MUST int vhd_create(const char *path, const struct vhd_create_options *options,
				struct vhd_error *err);

struct vhd_snapshot_options {
	bool raw_parent;
	bool link_empty; /* link to the given parent even if it is empty */
	unsigned limit;	 /* refuse chains deeper than this; 0: VHD's 256 */
	uint64_t size;	 /* virtual size of the child; 0: the parent's */
	uint64_t max_size;
	uint32_t block_size; /* 0: the parent's, or 2 MiB */
	bool force;
	bool dry_run; /* all checks, but change nothing */
	struct vhd_parents parents;
	struct vhd_progress progress; /* its warn: nothing here takes long */
};
VHD_API VHD_MUST int vhd_snapshot(const char *child, const char *parent,
				  const struct vhd_snapshot_options *options,
				  struct vhd_error *err);

enum vhd_field { VHD_FIELD_HIDDEN, VHD_FIELD_MARKER };
VHD_API VHD_MUST int vhd_set(const char *path, enum vhd_field field, uint8_t value,
			     struct vhd_error *err);

/* modify */
struct vhd_modify_options {
	const char *parent; /* another parent; NULL: stays */
	bool raw_parent;
	uint64_t physical_size; /* the file is to have so many bytes, footer included; 0: stays */
	bool zero;		/* drop all data, first */
	bool dry_run;		/* all checks, but change nothing */
	struct vhd_parents parents;
};
/* The parent is changed beside a running server, too, if there is room for its path: else
 * VHD_E_BUSY.  What the disk contains is the new parent's business: see vhd_rebase. */
VHD_API VHD_MUST int vhd_modify(const char *path, const struct vhd_modify_options *options,
				struct vhd_error *err);
/* vhd_key_*: the key hash of an image, in the header of its batmap */
#define VHD_KEY_HASH 32
struct vhd_key_info {
	bool encrypted;
	uint8_t nonce[VHD_KEY_HASH], hash[VHD_KEY_HASH]; /* SHA-256 of nonce and key */
};
VHD_API VHD_MUST int vhd_key_info(const char *path, struct vhd_key_info *out,
				  struct vhd_error *err);
/* 0: @key is the image's.  -VHD_E_KEY: another one, or the image is not encrypted. */
VHD_API VHD_MUST int vhd_key_check(const char *path, const struct vhd_key *key,
				   struct vhd_error *err);
/* From now on what is written is encrypted.  Only images without any data. */
struct vhd_key_options {
	const struct vhd_key *key; /* or the hash itself: */
	const uint8_t *hash;
	const uint8_t *nonce; /* NULL: random; with a hash: zeros */
	bool dry_run;
	bool force; /* an image that has data and says it is clear: it is ciphertext of that key, only
		     * the hash was lost */
};
VHD_API VHD_MUST int vhd_key_set(const char *path, const struct vhd_key_options *options,
				 struct vhd_error *err);
VHD_API VHD_MUST int vhd_key_hash(const struct vhd_key *key, const uint8_t nonce[VHD_KEY_HASH],
				  uint8_t hash[VHD_KEY_HASH]);

/* rebase: another parent, the same contents */
struct vhd_rebase_options {
	struct vhd_key *key; /* of an encrypted image, and of its parents that are */
	const char *parent;
	bool raw_parent;
	bool unsafe;  /* only vhd_modify: contents may change */
	bool force;   /* a hidden image, too */
	bool dry_run; /* compare, change nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
};
struct vhd_rebase_result {
	uint64_t compared_bytes; /* read from both, as they come from different places */
	uint64_t copied_bytes;	 /* into the image */
};
VHD_API VHD_MUST int vhd_rebase(const char *path, const struct vhd_rebase_options *options,
				struct vhd_rebase_result *result, struct vhd_error *err);

/* relink: the parent has moved */
struct vhd_relink_options {
	const char *const *directories; /* NULL-terminated, at least one; searched with all below */
	bool dry_run;
	struct vhd_parents parents;
};
struct vhd_relink_result {
	char parent[4096]; /* where it is */
	bool unchanged;	   /* where the image says */
};
VHD_API VHD_MUST int vhd_relink(const char *path, const struct vhd_relink_options *options,
				struct vhd_relink_result *result, struct vhd_error *err);

/* vhd_copy: another image with the same data, a sibling where there is a parent; its id is new */
struct vhd_copy_options {
	/* Of the source, whose data is then clear in between; without it ciphertext stays as it is. */
	struct vhd_key *source_key;
	struct vhd_key *key; /* that the copy shall have */
	bool force;
	bool dry_run; /* all checks, but change nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
};
struct vhd_copy_result {
	uint64_t size, data_bytes, file_bytes;
	bool encrypted;
};
VHD_API VHD_MUST int vhd_copy(const char *source, const char *destination,
			      const struct vhd_copy_options *options,
			      struct vhd_copy_result *result, struct vhd_error *err);

struct vhd_coalesce_options {
	const char *ancestor; /* NULL: the immediate parent */
	bool skip_zeros;      /* do not write data that is zero where zero is below */
	bool force;	      /* despite other children */
	bool dry_run;	      /* count, change nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
	/* Ciphertext moves as it is, between images of one key.  Only needed where their hashes,
	 * made with different nonces, do not show that. */
	struct vhd_key *key;
};
struct vhd_coalesce_result {
	char into[4096]; /* path of the image merged into */
	unsigned levels; /* images merged */
	uint64_t sectors, bytes_read, bytes_written;
	bool resumed;
};
VHD_API VHD_MUST int vhd_coalesce(const char *child, const struct vhd_coalesce_options *options,
				  struct vhd_coalesce_result *result, struct vhd_error *err);

/* deltas: what changed between two images, as an image of its own */
struct vhd_delta_options {
	bool raw_old; /* the old image is a raw disk */
	const char
		*log; /* a changed-block log since the old one: the rest is not compared; or NULL */
	uint32_t block_size; /* 0: 64 KiB, more for large disks */
	bool gzip;	     /* compress it (also by suffix .gz) */
	uint64_t skip;	     /* leave the first bytes out: they have arrived already */
	bool force;
	bool dry_run; /* how large it would be */
	struct vhd_parents parents;
	struct vhd_progress progress;
	struct vhd_key
		*key; /* of those of the two that are encrypted; the delta is, if the new one is */
};
struct vhd_delta_result {
	uint64_t blocks, changed_bytes; /* changed_bytes: not of a dry run */
	uint64_t bytes;			/* of the whole delta, not compressed */
};
/* @destination "-": standard output, in one pass.  The delta has @new's id, and @old as parent. */
VHD_API VHD_MUST int vhd_delta_create(const char *old, const char *new, const char *destination,
				      const struct vhd_delta_options *options,
				      struct vhd_delta_result *result, struct vhd_error *err);

struct vhd_apply_options {
	bool raw_parent;
	bool resume; /* go on with what has arrived */
	bool force;
	bool dry_run; /* verify it, make nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
};
struct vhd_apply_result {
	uint64_t bytes, resumed_bytes; /* received in all; of them earlier */
};
/* A delta, from a file or "-", becomes the child @path of @parent, whole or not at all. */
VHD_API VHD_MUST int vhd_delta_apply(const char *source, const char *parent, const char *path,
				     const struct vhd_apply_options *options,
				     struct vhd_apply_result *result, struct vhd_error *err);
/* How much of a delta that becomes @path has arrived; 0: nothing. */
VHD_API VHD_MUST int vhd_delta_arrived(const char *path, uint64_t *bytes, struct vhd_error *err);

/* resize */
struct vhd_resize_options {
	uint64_t size;	     /* virtual bytes, a multiple of 512 */
	const char *journal; /* NULL: none.  A file or device that holds what it was, until done */
	bool fast;	     /* only within the room that the metadata has */
	bool cut_data;	     /* smaller: lose data behind the new end */
	bool dry_run;	     /* all checks, but change nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
	struct vhd_key *key; /* smaller: of encrypted parents, whose data is looked at */
};
struct vhd_resize_result {
	uint64_t old_size, new_size;	     /* bytes */
	uint64_t moved_blocks, freed_blocks; /* dry run: moved, as far as it is known */
	bool metadata_moved;
};
VHD_API VHD_MUST int vhd_resize(const char *path, const struct vhd_resize_options *options,
				struct vhd_resize_result *result, struct vhd_error *err);

/* Undo a resize that was interrupted, by its journal: of this library or of the predecessor's
 * tools.  @journal NULL: ".FILE.journal" beside the image.  It is removed when all is done. */
struct vhd_revert_result {
	bool reverted;	   /* else there was nothing to undo */
	uint64_t old_size; /* of the disk, bytes: as it is now */
	uint64_t restored; /* bytes put back */
};
VHD_API VHD_MUST int vhd_revert(const char *path, const char *journal, bool dry_run,
				struct vhd_revert_result *result, struct vhd_error *err);

/* export and import: a whole chain as one stream */
struct vhd_export_options {
	bool gzip; /* compress it (also by suffix .gz or .tgz) */
	bool force;
	bool dry_run; /* all checks, but make nothing */
	struct vhd_parents parents;
	struct vhd_progress progress;
};
struct vhd_export_result {
	unsigned images;
	uint64_t bytes; /* not compressed; not of a dry run */
};
/* @destination "-": standard output.  A tar archive; see doc/format.md. */
VHD_API VHD_MUST int vhd_export(const char *path, const char *destination,
				const struct vhd_export_options *options,
				struct vhd_export_result *result, struct vhd_error *err);

struct vhd_import_options {
	bool dry_run; /* verify it, make nothing */
	struct vhd_progress progress;
};
struct vhd_import_result {
	unsigned images;
	unsigned relinked; /* of them those that had their parent elsewhere */
	uint64_t bytes;	   /* not compressed */
	char leaf[256];	   /* its name in the directory */
};
/* Makes @directory, new or empty, with the whole chain in it, or nothing. */
VHD_API VHD_MUST int vhd_import(const char *source, const char *directory,
				const struct vhd_import_options *options,
				struct vhd_import_result *result, struct vhd_error *err);

/* fill: all of the disk becomes the image's own; what it contains stays */
struct vhd_fill_options {
	bool bitmaps;	      /* only sectors first .. last, and no storage for zeros */
	uint64_t first, last; /* inclusive; UINT64_MAX: the disk's last */
	bool dry_run;
	struct vhd_parents parents;
	struct vhd_progress progress;
	struct vhd_key *key; /* of an encrypted image */
};
struct vhd_fill_result {
	uint64_t blocks, sectors; /* that were added */
};
VHD_API VHD_MUST int vhd_fill(const char *path, const struct vhd_fill_options *options,
			      struct vhd_fill_result *result, struct vhd_error *err);

/* compact: less space for the same disk; optimize: the same, in the order of the disk */
struct vhd_compact_options {
	bool order; /* optimize */
	bool dry_run;
	struct vhd_parents parents;
	struct vhd_progress progress;
};
struct vhd_compact_result {
	uint64_t dropped_blocks, moved_blocks;
	uint64_t file_before, file_after;	/* bytes long */
	uint64_t storage_before, storage_after; /* bytes the file system has given; dry run: after
						 * is what it would be at most */
	uint64_t out_of_order;			/* optimize: blocks not behind their predecessor */
};
VHD_API VHD_MUST int vhd_compact(const char *path, const struct vhd_compact_options *options,
				 struct vhd_compact_result *result, struct vhd_error *err);

enum vhd_format { VHD_FORMAT_AUTO, VHD_FORMAT_RAW, VHD_FORMAT_FIXED, VHD_FORMAT_DYNAMIC };
enum vhd_target { VHD_FOR_ANY, VHD_FOR_AZURE, VHD_FOR_HYPERV, VHD_FOR_XEN, VHD_FOR_VPC };
struct vhd_convert_options {
	enum vhd_format from; /* AUTO: VHD if it has a valid footer, else raw */
	enum vhd_format to;   /* AUTO: by the target's suffix */
	bool gzip;	      /* compress the target (also by suffix .gz) */
	bool force;
	bool no_sync; /* do not wait for the disk at the end */
	bool dry_run; /* all checks, but change nothing and read no pipe */
	enum vhd_target target;
	uint32_t block_size; /* of a dynamic target; 0: 2 MiB */
	struct vhd_parents parents;
	struct vhd_progress progress;
	struct vhd_key *key; /* of an encrypted source; the target is never encrypted */
};
struct vhd_convert_result {
	uint64_t size, data_bytes, file_bytes;
};
/* "-" is standard input or output. */
VHD_API VHD_MUST int vhd_convert(const char *source, const char *destination,
				 const struct vhd_convert_options *options,
				 struct vhd_convert_result *result, struct vhd_error *err);

/* 0 same, -VHD_E_DIFFERENT with *first = first differing byte.  Disks of
 * different sizes differ at the latest at the end of the shorter one. */
struct vhd_compare_options {
	enum vhd_format from_a, from_b;
	struct vhd_parents parents;
	struct vhd_progress progress;
	struct vhd_key *key; /* of those of the two that are encrypted */
};
VHD_API VHD_MUST int vhd_compare(const char *a, const char *b,
				 const struct vhd_compare_options *options, uint64_t *first,
				 struct vhd_error *err);

enum vhd_severity { VHD_NOTE, VHD_WARNING, VHD_DAMAGE };
struct vhd_finding {
	int code; /* negative, as in vhd_error */
	enum vhd_severity severity;
	unsigned has; /* enum vhd_error_has, and: */
#define VHD_HAS_BLOCK (1 << 2)
	uint64_t offset, block, expected, found;
	bool repairable;  /* vhd_repair mends it without any of its options */
	const char *file; /* which image of the chain */
	const char *text; /* valid during the call */
};
struct vhd_check_options {
	bool parents_too, bitmaps, no_overlap, ignore_footer, ignore_parent_id, ignore_timestamps;
	enum vhd_target target;
	struct vhd_parents parents;
	struct vhd_progress progress;
	/* Called for each finding, as found; may be NULL. */
	void (*finding)(void *arg, const struct vhd_finding *finding);
	void *arg;
};
struct vhd_check_result {
	uint64_t leaked_bytes, allocated_blocks, total_blocks, present_sectors;
	unsigned damages, warnings;
};
/* 0 when the image could be examined, whatever was found: see the result. */
VHD_API VHD_MUST int vhd_check(const char *path, const struct vhd_check_options *options,
			       struct vhd_check_result *result, struct vhd_error *err);

/* ── repair and salvage ── */

/* A range of the disk whose contents cannot be had. */
struct vhd_lost {
	uint64_t offset, length; /* on the virtual disk, bytes */
	bool guessed;		 /* salvage: not lost, but taken from where it most likely is */
	const char *why;	 /* static storage */
};

struct vhd_change {
	uint64_t offset, length; /* in the file */
	const char *text;	 /* valid during the call */
};

struct vhd_repair_options {
	/* Two valid footers that contradict each other: which one is right?  Neither: nothing is
	 * done about it. */
	bool backup_footer; /* the copy at the front: refused if that is not valid */
	bool end_footer;
	/* Consent to a loss, which is then told by lost: entries of blocks that are nowhere
	 * become unused, a block that is cut off is completed with zeros. */
	bool drop_lost;
	bool keep_unmarked; /* no parent: sectors with data under clear bits are marked as written */
	bool trim;	    /* bytes behind the end footer are cut off */
	/* Of blocks that claim the same space: these keep it, the others lose theirs. */
	const uint32_t *owners;
	unsigned owner_count;
	const char *parent; /* of a differencing image whose header lost the id: its parent */
	const char *backup; /* file for the changed sectors as they were; NULL: PATH.repair-UTC */
	bool dry_run;	    /* all but the writing */
	struct vhd_progress progress;
	/* Each may be NULL; called when the changes are durable: what was changed, what was lost
	 * by that, and what is still to be found by a check. */
	void (*change)(void *arg, const struct vhd_change *change);
	void (*lost)(void *arg, const struct vhd_lost *lost);
	void (*finding)(void *arg, const struct vhd_finding *finding);
	void *arg;
};
struct vhd_repair_result {
	uint64_t changes, lost_bytes;
	unsigned damages;  /* that remain */
	char backup[4096]; /* empty: nothing was changed */
};
/* 0 when the image could be examined and what is mendable was mended: see the result. */
VHD_API VHD_MUST int vhd_repair(const char *path, const struct vhd_repair_options *options,
				struct vhd_repair_result *result, struct vhd_error *err);
/* Put back what a repair changed, from the file that it left; @dry_run: only see whether it can be.
 * -VHD_E_ARGUMENT: the image was written to since, and that would be lost. */
VHD_API VHD_MUST int vhd_repair_undo(const char *path, const char *backup, bool dry_run,
				     struct vhd_error *err);

struct vhd_salvage_options {
	/* What is likely but not proven is taken as well, and told as guessed: a footer that is
	 * assumed, blocks by the order of their places, data under bits that mean nothing. */
	bool guess;
	bool backup_footer, end_footer; /* as for vhd_repair */
	const char *parent; /* of a differencing image; needed where its header lost the id */
	bool force;	    /* replace what is there */
	bool dry_run;	    /* all but the writing */
	struct vhd_progress progress;
	/* Called for each range that is lost, or guessed, in order of the disk; may be NULL. */
	void (*lost)(void *arg, const struct vhd_lost *lost);
	void *arg;
};
struct vhd_salvage_result {
	uint64_t size, data_bytes;
	uint64_t lost_bytes, guessed_bytes;
	uint64_t unnamed_blocks; /* in the file, of which nobody knows where they belong */
	bool assumed;		 /* neither footer was valid: size and type are guessed */
};
/* Make a sound image of the same disk, its id and parent included, from what can be read of a
 * damaged one, which is only read.  0 when that is made, whatever was lost: see the result. */
VHD_API VHD_MUST int vhd_salvage(const char *source, const char *destination,
				 const struct vhd_salvage_options *options,
				 struct vhd_salvage_result *result, struct vhd_error *err);

#ifdef __cplusplus
}
#endif
#endif
