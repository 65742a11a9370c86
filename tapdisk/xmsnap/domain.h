/* domain.h - a virtual machine's disks, from its libvirt domain XML */
#ifndef XMSNAP_DOMAIN_H
#define XMSNAP_DOMAIN_H

#include "libvhd/vhd.h"

#define DOMAIN_XML_MAX (4u << 20)

struct domain_disk {
	char *target; /* "vda"; "" if it is not told */
	char *path;   /* of a file or device; NULL: none */
	char *socket; /* NBD over a Unix socket; NULL: none */
	char *host;   /* NBD over TCP: "host:port"; NULL: none */
	char *export; /* NBD: name, maybe "" */
	char *other;  /* another kind of source, for messages; NULL: none */
	bool read_only, shareable;
};

struct domain {
	char *name; /* "" if it is not told */
	struct domain_disk *disks;
	unsigned count;
};

/* Disks (not CD-ROMs and floppies) of the domain described by @xml.  No network, no external
 * entities.  -VHD_E_ARGUMENT: it is no domain; -ENOMEM. */
VHD_MUST int domain_parse(const char *xml, size_t length, struct domain *out,
			  struct vhd_error *err);
void domain_release(struct domain *domain);

/* The XML in @file, or of virtual machine @vm as virsh dumps it.  *out is to be freed. */
VHD_MUST int domain_load(const char *file, char **out, size_t *length, struct vhd_error *err);
VHD_MUST int domain_dump(const char *vm, char **out, size_t *length, struct vhd_error *err);

#endif
