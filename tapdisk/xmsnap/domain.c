/* domain.c - libvirt's domain XML, by libxml2: no network, no entities from outside, bounded */
#include "domain.h"

#include <errno.h>
#include <fcntl.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvhd/base/cleanup.h"
#include "libvhd/error.h"

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

/* A copy of an attribute; NULL: it is not there, or no memory. */
static char *attribute(xmlNode *node, const char *name)
{
	xmlChar *value = node ? xmlGetProp(node, (const xmlChar *)name) : NULL;
	char *copy = value ? strdup((const char *)value) : NULL;

	xmlFree(value);
	return copy;
}

static bool attribute_is(xmlNode *node, const char *name, const char *value)
{
	CLEANUP_FREE char *found = attribute(node, name);

	return found && !strcmp(found, value);
}

static void network_source(xmlNode *source, struct domain_disk *disk)
{
	CLEANUP_FREE char *protocol = attribute(source, "protocol");
	xmlNode *host = child(source, "host");

	if (!protocol || strcmp(protocol, "nbd") != 0) {
		disk->other = strdup(protocol ? protocol : "network");
		return;
	}
	disk->export = attribute(source, "name");
	if (!disk->export)
		disk->export = strdup("");
	if (attribute_is(host, "transport", "unix")) {
		disk->socket = attribute(host, "socket");
	} else {
		CLEANUP_FREE char *name = attribute(host, "name"), *port = attribute(host, "port");

		if (name && asprintf(&disk->host, strchr(name, ':') ? "[%s]:%s" : "%s:%s", name,
				     port ? port : "10809") < 0)
			disk->host = NULL;
	}
}

static void one_disk(xmlNode *node, struct domain_disk *disk)
{
	xmlNode *source = child(node, "source");
	CLEANUP_FREE char *type = attribute(node, "type");

	disk->target = attribute(child(node, "target"), "dev");
	if (!disk->target)
		disk->target = strdup("");
	disk->read_only = child(node, "readonly");
	disk->shareable = child(node, "shareable");
	if (type && !strcmp(type, "file"))
		disk->path = attribute(source, "file");
	else if (type && !strcmp(type, "block"))
		disk->path = attribute(source, "dev");
	else if (type && !strcmp(type, "network"))
		network_source(source, disk);
	else
		disk->other = strdup(type ? type : "unknown");
	if (!disk->path && !disk->socket && !disk->host && !disk->other)
		disk->other = strdup("a source that is not told");
}

static bool is_disk(xmlNode *node)
{
	return is(node, "disk") &&
	       (!xmlHasProp(node, (const xmlChar *)"device") ||
		attribute_is(node, "device", "disk") || attribute_is(node, "device", "lun"));
}

static int read_domain(xmlNode *root, struct domain *out, struct vhd_error *err)
{
	xmlNode *devices = child(root, "devices"), *name = child(root, "name");
	xmlChar *text = name ? xmlNodeGetContent(name) : NULL;
	unsigned count = 0;

	out->name = strdup(text ? (const char *)text : "");
	xmlFree(text);
	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
		count += is_disk(n);
	out->disks = calloc(count + 1, sizeof(*out->disks));
	if (!out->name || !out->disks)
		return error_set(err, -ENOMEM, "out of memory");
	for (xmlNode *n = devices ? devices->children : NULL; n; n = n->next)
		if (is_disk(n))
			one_disk(n, &out->disks[out->count++]);
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
	if (!root || !is(root, "domain"))
		rc = error_set(err, -VHD_E_ARGUMENT,
			       "this is no domain XML; give what 'virsh dumpxml VM' prints");
	else
		rc = read_domain(root, out, err);
	xmlFreeDoc(doc);
	if (rc < 0)
		domain_release(out);
	return rc;
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

/* ── where it comes from ── */

static int read_all(int fd, const char *what, char **out, size_t *length, struct vhd_error *err)
{
	CLEANUP_FREE char *text = malloc(DOMAIN_XML_MAX + 1);
	size_t used = 0;
	ssize_t n = 1;

	if (!text)
		return error_set(err, -ENOMEM, "out of memory");
	while (n && used <= DOMAIN_XML_MAX) {
		n = read(fd, text + used, DOMAIN_XML_MAX + 1 - used);
		if (n < 0 && errno == EINTR) {
			n = 1;
			continue;
		}
		if (n < 0)
			return error_system(err, -errno, "read", what);
		used += (size_t)n;
	}
	*out = steal_ptr(&text);
	*length = used;
	return 0;
}

int domain_load(const char *file, char **out, size_t *length, struct vhd_error *err)
{
	CLEANUP_FD int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_system(err, -errno, "read", file);
	return read_all(fd, file, out, length, err);
}

int domain_dump(const char *vm, char **out, size_t *length, struct vhd_error *err)
{
	int ends[2], status = 0, rc;
	pid_t pid;

	*out = NULL;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run virsh: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		if (dup2(ends[1], STDOUT_FILENO) >= 0)
			execlp("virsh", "virsh", "dumpxml", "--", vm, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	rc = pid < 0 ? error_set(err, -errno, "cannot run virsh: %s", strerror(errno)) :
		       read_all(ends[0], "virsh dumpxml", out, length, err);
	close(ends[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!rc && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		free(steal_ptr(out));
		if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
			return error_set(
				err, -ENOENT,
				"cannot ask for the disks of '%s': there is no virsh; give "
				"--domain-xml FILE",
				vm);
		return error_set(err, -ENOENT,
				 "cannot ask for the disks of '%s': virsh failed (status %d)", vm,
				 WEXITSTATUS(status));
	}
	return rc;
}
