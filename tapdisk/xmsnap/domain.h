/* domain.h - a virtual machine's disks, from its libvirt domain XML */
#ifndef XMSNAP_DOMAIN_H
#define XMSNAP_DOMAIN_H

#include "libvhd/vhd.h"

#define DOMAIN_XML_MAX (4u << 20)

/* One of path, socket, host and other is given; all are owned. */
struct domain_disk {
	char *target; /* "vda"; "" if it is not told */
	char *path;   /* of a file or device */
	char *socket; /* NBD over a Unix socket */
	char *host;   /* NBD over TCP: "host:port", "[v6]:port" */
	char *export; /* NBD: name, maybe ""; else NULL */
	char *other;  /* another kind of source, for messages */
	bool read_only, shareable, transient;
};

struct domain {
	char *name; /* "" if it is not told */
	struct domain_disk *disks;
	unsigned count;
};

/* Disks (not CD-ROMs and floppies) of the domain described by @xml.  No network, no document type
 * and so no entities.  -VHD_E_ARGUMENT: it is no domain, or has no disks; -ENOMEM.  After a
 * failure there is nothing to release. */
VHD_MUST int domain_parse(const char *xml, size_t length, struct domain *out,
			  struct vhd_error *err);
/* A domain that has only the disk with file @path. */
VHD_MUST int domain_of_file(const char *path, struct domain *out, struct vhd_error *err);
void domain_release(struct domain *domain);

/* Where the disk's data are, for messages: borrowed. */
const char *domain_disk_source(const struct domain_disk *disk);

#endif
