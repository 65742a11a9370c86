/* host.h - all the VBDs of a process, the loop and the engine they share */
#ifndef TAPDISK_HOST_H
#define TAPDISK_HOST_H

#include "vbd.h"

struct host {
	struct loop *loop;     /* borrowed */
	struct engine *engine; /* borrowed */
	struct list vbds;      /* of struct vbd, by minor: see host_next */
	struct list disks;     /* running ones: peers of each other (driver.h) */
	uint64_t reopen_ns;    /* files are opened anew when storage failed for so long; 0: never */
	/* How images are opened: disk_open; tests have their own.  Blocking, any thread. */
	int (*open)(struct host *host, const char *spec, const struct disk_params *params,
		    struct disk **out, struct vhd_error *err);
	/* fair shares: host.c */
	uint64_t room; /* for load */
	struct list waiting;
	uint64_t load;
	unsigned active;
	bool serving;
};

void host_init(struct host *host, struct loop *loop, struct engine *engine);
struct vbd *host_find(const struct host *host, unsigned minor); /* NULL: none */
/* The VBD after @vbd by minor; NULL: the first; returns NULL at the end. */
struct vbd *host_next(const struct host *host, const struct vbd *vbd);
unsigned host_free_minor(const struct host *host); /* the lowest unused */

#endif
