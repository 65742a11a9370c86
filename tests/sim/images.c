/* images.c - chains of images in a store */
#include "images.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "core-model.h"
#include "libvhd/chain.h"
#include "libvhd/create.h"
#include "libvhd/crypt.h"
#include "libvhd/io-file.h"
#include "tapdisk/drivers/vhd-private.h"
#include "tests/lib/flat-reader.h"

/* Blocks of a few sectors: the program's own would never fill. */
#define CACHE_BYTES (1u << 16)

static struct vhd_image *open_image(struct store *store, const char *name, bool writable)
{
	struct mem_disk *disk = store_find(store, name);
	struct vhd_image *img;
	struct vhd_error err;

	if (!disk)
		model_die("there is no '%s'", name);
	mem_disk_fail(disk, 0, 0, 0); /* what was ordered for it when it was made */
	if (image_open(mem_disk_open(disk, name, writable), 0, &img, &err) < 0)
		model_die("'%s' does not open: %s", name, err.text);
	return img;
}

/* The one cipher of all images that are encrypted, and its hash. */
static struct crypt *crypt;
static struct vhd_batmap_header hash = { .keyhash = 1 };

static void make_key(void)
{
	struct vhd_key *key;
	uint8_t bytes[64];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * i + 3);
	if (!crypt && (crypt_key_new(bytes, sizeof(bytes), &key, NULL) < 0 ||
		       crypt_open(key, &crypt) < 0 || vhd_key_hash(key, hash.nonce, hash.hash) < 0))
		model_die("no key");
}

static void decode(uint8_t *data, uint64_t sector)
{
	if (crypt_decrypt(crypt, data, data, sector, 1) < 0)
		model_die("cannot decrypt");
}

/* The name of @img's parent; false: it has none. */
static bool parent_of(struct vhd_image *img, char *out)
{
	char path[4096];
	const char *slash;

	if (!image_has_parent(img))
		return false;
	if (chain_stored_parent(img, path, sizeof(path), NULL) < 0)
		model_die("'%s' does not name its parent", img->io->name);
	slash = strrchr(path, '/');
	snprintf(out, STORE_NAME, "/%.30s", slash ? slash + 1 : path);
	return true;
}

uint32_t images_make(struct store *store, struct rng *rng, const char *name, const char *parent,
		     uint64_t sectors, uint64_t room)
{
	static const uint32_t blocks[] = { 4096, 8192, 16384, 65536 };
	struct plan_spec spec = { .type = parent ? VHD_TYPE_DIFFERENCING : VHD_TYPE_DYNAMIC,
				  .size = sectors * 512,
				  .max_size = room * 512 };
	char path[STORE_NAME + 2];
	struct mem_disk *disk = mem_disk_new(0, false);
	struct vhd_error err;
	struct vhd_io *io;
	struct plan plan;

	spec.block_size = blocks[rng_below(rng, 4)];
	spec.creator = rng_chance(rng, 70) ? NULL : "win ";
	create_id(spec.id);
	make_key();
	if (!spec.creator && rng_chance(rng, 30))
		spec.key = &hash;
	if (parent) {
		struct vhd_image *img = open_image(store, parent, false);

		if (image_is_encrypted(img)) { /* then its children are, too */
			spec.creator = NULL;
			spec.key = &hash;
		}
		memcpy(spec.parent_id, img->footer.uuid, sizeof(spec.parent_id));
		snprintf(path, sizeof(path), ".%s", parent);
		spec.parent_path = path;
		image_close(img);
	}
	if (plan_make(&spec, &plan, &err) < 0)
		model_die("plan: %s", err.text);
	io = mem_disk_open(disk, name, true);
	if (create_sparse(io, &plan, plan.metadata_end, &err) < 0)
		model_die("create: %s", err.text);
	io_close(io);
	store_put(store, name, disk);
	return spec.block_size;
}

int images_open(struct store *store, const char *spec, const struct disk_params *params,
		struct disk **out, struct vhd_error *err)
{
	struct vhd_image *images[IMAGES_DEPTH_MAX];
	char name[STORE_NAME];
	unsigned depth = 0;

	snprintf(name, sizeof(name), "%s", spec + strlen("vhd:"));
	do {
		struct vhd_image *img = open_image(store, name, !depth && !params->read_only);
		int rc;

		assert(depth < IMAGES_DEPTH_MAX);
		img->early_bitmaps = true;
		img->crypt = image_is_encrypted(img) ? crypt_get(crypt) : NULL;
		rc = depth || params->read_only ? image_load(img, CACHE_BYTES, err) :
						  image_begin_write(img, CACHE_BYTES, err);
		if (rc < 0)
			model_die("'%s' does not load: %s", name, err->text);
		images[depth++] = img;
	} while (parent_of(images[depth - 1], name));
	if (!params->read_only && io_file_sync_directory(images[0]->io->name) < 0)
		model_die("the directory cannot be synced");
	return vhd_disk_wrap(images, depth, NULL, params, out, err);
}

unsigned images_depth(struct store *store, const char *leaf)
{
	char name[STORE_NAME];
	unsigned depth = 0;
	bool more = true;

	snprintf(name, sizeof(name), "%s", leaf);
	for (; more; depth++) {
		struct vhd_image *img = open_image(store, name, false);

		more = parent_of(img, name);
		image_close(img);
	}
	return depth;
}

bool images_in_chain(struct store *store, const char *leaf, const char *wanted)
{
	char name[STORE_NAME];
	bool more = true;

	snprintf(name, sizeof(name), "%s", leaf);
	while (more && strcmp(name, wanted) != 0) {
		struct vhd_image *img = open_image(store, name, false);

		more = parent_of(img, name);
		image_close(img);
	}
	return more;
}

bool images_hidden(struct store *store, const char *name)
{
	struct vhd_image *img = open_image(store, name, false);
	bool hidden = img->footer.hidden;

	image_close(img);
	return hidden;
}

/* ── what is on the disk ── */

static void mend(struct mem_disk *disk, const char *name, const char *when)
{
	struct vhd_image *img;
	struct vhd_error err;

	if (image_open(mem_disk_open(disk, name, true), 0, &img, &err) < 0 ||
	    image_begin_write(img, CACHE_BYTES, &err) < 0 || image_finish(img, &err) < 0 ||
	    io_sync(img->io) < 0)
		model_die("%s: %s", when, err.text);
	image_close(img);
}

void images_mend(struct store *store, const char *name)
{
	mend(store_find(store, name), name, "mended");
}

static bool get(void *arg, void *buf, size_t length, uint64_t offset)
{
	struct mem_disk *disk = arg;

	if (offset + length > mem_disk_size(disk))
		return false;
	mem_disk_peek(disk, buf, length, offset);
	return true;
}

/* The chain of @leaf, the leaf itself mended in a copy: into @sources. */
static unsigned gather(struct store *store, const char *leaf, struct flat_source *sources,
		       const char *when)
{
	char name[STORE_NAME];
	unsigned depth = 0;
	bool more = true;

	snprintf(name, sizeof(name), "%s", leaf);
	while (more) {
		struct vhd_image *img = open_image(store, name, false);
		struct mem_disk *disk = store_find(store, name);

		assert(depth < IMAGES_DEPTH_MAX);
		if (!depth) {
			disk = mem_disk_copy(disk);
			mend(disk, name, when);
		}
		sources[depth++] = (struct flat_source){
			get,
			disk,
			mem_disk_size(disk),
			false,
			image_is_encrypted(img) ? decode : NULL,
		};
		more = parent_of(img, name);
		image_close(img);
	}
	return depth;
}

void images_look(struct store *store, const char *leaf, struct drive *drive, const char *when)
{
	struct flat_source sources[IMAGES_DEPTH_MAX];
	unsigned depth = gather(store, leaf, sources, when);
	struct flat flat;
	uint8_t bytes[512];

	if (!flat_open(&flat, sources, depth))
		model_die("%s: %s", when, flat.why);
	if (drive_tried(drive, flat_size(&flat) / 512))
		drive_grow(drive, flat_size(&flat) / 512);
	drive->tried_count = 0;
	if (flat_size(&flat) != drive->sectors * 512)
		model_die("%s: %llu bytes, not %llu", when, (unsigned long long)flat_size(&flat),
			  (unsigned long long)drive->sectors * 512);
	for (uint64_t n = 0; n < drive->sectors; n++) {
		if (!flat_read(&flat, bytes, n, 1))
			model_die("%s: sector %llu: %s", when, (unsigned long long)n, flat.why);
		if (!drive_settle(drive, n, bytes))
			model_die("%s: sector %llu is neither as flushed nor as written since",
				  when, (unsigned long long)n);
	}
	flat_release(&flat);
	mem_disk_free(sources[0].arg);
}
