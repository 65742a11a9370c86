/* domain.c - libvirt's domain XML, by libxml2: no network, no entities, bounded */
#include "domain.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

#define NBD_PORT "10809"

/* ── elements and attributes; *@oom is set when memory runs out: a disk misread for want of memory
 * would be left out of the snapshot ── */

static bool is(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name);
}

static xmlNode *child(const xmlNode *node, const char *name)
{
	for (xmlNode *n = node ? node->children : NULL; n; n = n->next)
		if (is(n, name))
			return n;
	return NULL;
}

static char *copy(const char *text, bool *oom)
{
	char *made = strdup(text);

	*oom = *oom || !made;
	return made;
}

/* A copy of an attribute; NULL: it is not there. */
static char *attribute(xmlNode *node, const char *name, bool *oom)
{
	const xmlChar *key = (const xmlChar *)name;
	xmlChar *value = node ? xmlGetProp(node, key) : NULL;
	char *made = value ? copy((const char *)value, oom) : NULL;

	if (!value && node && xmlHasProp(node, key))
		*oom = true;
	xmlFree(value);
	return made;
}

/* ── a disk ── */

static void network_source(xmlNode *source, struct domain_disk *disk, bool *oom)
{
	CLEANUP_FREE char *protocol = attribute(source, "protocol", oom);
	xmlNode *host = child(source, "host");
	CLEANUP_FREE char *transport = attribute(host, "transport", oom);
	CLEANUP_FREE char *name = attribute(host, "name", oom);
	CLEANUP_FREE char *port = attribute(host, "port", oom);

	if (!protocol || strcmp(protocol, "nbd") != 0) {
		disk->other = copy(protocol ? protocol : "network", oom);
		return;
	}
	disk->export = attribute(source, "name", oom);
	if (!disk->export)
		disk->export = copy("", oom);
	if (transport && !strcmp(transport, "unix"))
		disk->socket = attribute(host, "socket", oom);
	else if (transport && strcmp(transport, "tcp") != 0)
		disk->other = copy(transport, oom);
	else if (name && asprintf(&disk->host, strchr(name, ':') ? "[%s]:%s" : "%s:%s", name,
				  port ? port : NBD_PORT) < 0) {
		disk->host = NULL;
		*oom = true;
	}
}

static void one_disk(xmlNode *node, struct domain_disk *disk, bool *oom)
{
	xmlNode *source = child(node, "source");
	CLEANUP_FREE char *type = attribute(node, "type", oom);

	disk->target = attribute(child(node, "target"), "dev", oom);
	if (!disk->target)
		disk->target = copy("", oom);
	disk->read_only = child(node, "readonly");
	disk->shareable = child(node, "shareable");
	disk->transient = child(node, "transient");
	if (type && !strcmp(type, "file"))
		disk->path = attribute(source, "file", oom);
	else if (type && !strcmp(type, "block"))
		disk->path = attribute(source, "dev", oom);
	else if (type && !strcmp(type, "network"))
		network_source(source, disk, oom);
	else
		disk->other = copy(type ? type : "unknown", oom);
	if (!disk->path && !disk->socket && !disk->host && !disk->other)
		disk->other = copy("not told", oom);
}

/* A "lun" is a disk too: leaving it out in silence would make a snapshot of a part. */
static bool is_disk(xmlNode *node, bool *oom)
{
	CLEANUP_FREE char *device = is(node, "disk") ? attribute(node, "device", oom) : NULL;

	return is(node, "disk") &&
	       (!device || (strcmp(device, "cdrom") != 0 && strcmp(device, "floppy") != 0));
}

static int read_domain(xmlNode *root, struct domain *out, struct vhd_error *err)
{
	xmlNode *devices = child(root, "devices"), *name = child(root, "name");
	xmlChar *text = name ? xmlNodeGetContent(name) : NULL;
	bool oom = false;
	unsigned count = 0;

	out->name = copy(text ? (const char *)text : "", &oom);
	xmlFree(text);
	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
		count += is(n, "disk");
	out->disks = calloc(count + 1, sizeof(*out->disks));
	for (xmlNode *n = devices && out->disks ? devices->children : NULL; n; n = n->next)
		if (is_disk(n, &oom))
			one_disk(n, &out->disks[out->count++], &oom);
	if (oom || !out->disks)
		return error_set(err, -ENOMEM, "out of memory");
	if (!out->count)
		return error_set(err, -VHD_E_ARGUMENT, "the virtual machine '%s' has no disks",
				 out->name);
	return 0;
}

int domain_parse(const char *xml, size_t length, struct domain *out, struct vhd_error *err)
{
	xmlDoc *doc;
	xmlNode *root;
	int rc;

	memset(out, 0, sizeof(*out));
	if (length > DOMAIN_XML_MAX)
		return error_set(err, -VHD_E_ARGUMENT, "the domain XML is larger than %u bytes",
				 DOMAIN_XML_MAX);
	doc = xmlReadMemory(xml, (int)length, "domain.xml", NULL,
			    XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
				    XML_PARSE_NOCDATA);
	root = doc ? xmlDocGetRootElement(doc) : NULL;
	if (root && (doc->intSubset || doc->extSubset))
		rc = error_set(err, -VHD_E_ARGUMENT,
			       "the domain XML has a document type: libvirt writes none, and "
			       "entities are not read");
	else if (!root || !is(root, "domain"))
		rc = error_set(err, -VHD_E_ARGUMENT,
			       "this is no domain XML; give what 'virsh dumpxml VM' prints");
	else
		rc = read_domain(root, out, err);
	xmlFreeDoc(doc);
	if (rc < 0)
		domain_release(out);
	return rc;
}

int domain_of_file(const char *path, struct domain *out, struct vhd_error *err)
{
	*out = (struct domain){ .name = strdup(""),
				.disks = calloc(1, sizeof(*out->disks)),
				.count = 1 };
	if (out->disks) {
		out->disks[0].target = strdup(path);
		out->disks[0].path = strdup(path);
	} else {
		out->count = 0;
	}
	if (out->name && out->count && out->disks[0].target && out->disks[0].path)
		return 0;
	domain_release(out);
	return error_set(err, -ENOMEM, "out of memory");
}

void domain_release(struct domain *domain)
{
	for (unsigned i = 0; i < domain->count; i++) {
		struct domain_disk *d = &domain->disks[i];

		free(d->target);
		free(d->path);
		free(d->socket);
		free(d->host);
		free(d->export);
		free(d->other);
	}
	free(domain->disks);
	free(domain->name);
	memset(domain, 0, sizeof(*domain));
}

const char *domain_disk_source(const struct domain_disk *disk)
{
	return disk->path   ? disk->path :
	       disk->socket ? disk->socket :
	       disk->host   ? disk->host :
			      disk->other;
}
