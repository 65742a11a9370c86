/* vbd-world.h - a host with the real loop and engine, in a directory of its own; waits are limited */
#ifndef TEST_VBD_WORLD_H
#define TEST_VBD_WORLD_H

#include "tapdisk/core/host.h"

#define VBD_WORLD_DEPTH 16u

struct vbd_world {
	struct loop *loop;
	struct engine *engine;
	struct host host;
	char dir[32];
	char text[128]; /* of vbd_world_path, vbd_world_spec */
};

void vbd_world_open(struct vbd_world *w);
void vbd_world_close(struct vbd_world *w); /* VBDs are freed; the directory goes */
/* dir/NAME; valid until the next call. */
const char *vbd_world_path(struct vbd_world *w, const char *name);
/* A file of @bytes, each of value @fill (0: a hole). */
void vbd_world_file(struct vbd_world *w, const char *name, uint64_t bytes, unsigned char fill);
/* Turn the loop until *@flag; fails the test after 20 s. */
void vbd_world_until(struct vbd_world *w, const bool *flag);

/* Do one thing and wait; the answer. */
int vbd_world_vbd(struct vbd_world *w, const char *type, const char *name, bool read_only,
		  struct vbd **out);
/* Its image anew, with a log of changed blocks (NULL: none). */
int vbd_world_open_image(struct vbd_world *w, struct vbd *vbd, const char *type, const char *name,
			 bool read_only, const char *log);
int vbd_world_pause(struct vbd_world *w, struct vbd *vbd);
int vbd_world_unpause(struct vbd_world *w, struct vbd *vbd, const char *spec, bool grow);
int vbd_world_hold(struct vbd_world *w, struct vbd *vbd);
int vbd_world_end(struct vbd_world *w, struct vbd *vbd); /* close and free */
int vbd_world_do(struct vbd_world *w, struct vbd *vbd, enum request_op op, unsigned flags,
		 uint64_t offset, uint64_t length, void *buf);
/* STATUS; the number of extents. */
unsigned vbd_world_status(struct vbd_world *w, struct vbd *vbd, uint64_t offset, uint64_t length,
			  struct request_extent *out, unsigned max);

#endif
