/* dump.h - where a domain's XML comes from: a file, or virsh */
#ifndef XMSNAP_DUMP_H
#define XMSNAP_DUMP_H

#include "libvhd/vhd.h"

/* At most DOMAIN_XML_MAX bytes, more are -VHD_E_ARGUMENT.  *out is to be freed. */
VHD_MUST int dump_file(const char *file, char **out, size_t *length, struct vhd_error *err);
/* What `virsh dumpxml VM` prints.  -ENOENT: there is no virsh, or it does not know @vm;
 * -ETIMEDOUT: it took longer than @wait_ms and was ended. */
VHD_MUST int dump_virsh(const char *vm, unsigned wait_ms, char **out, size_t *length,
			struct vhd_error *err);

#endif
