/* table.c - the types of disks, and "TYPE:ARGUMENT" texts that name one */
#include <errno.h>
#include <string.h>

#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "types.h"
#include "vhd-private.h"

const struct disk_type disk_types[] = {
	{ "vhd", vhd_disk_open, false },
	{ "aio", raw_disk_open, false }, /* as storage managers call it */
	{ "raw", raw_disk_open, false },
	{ "ram", ram_disk_open, false },
	{ "null", null_disk_open, false },
	{ "log", log_disk_open, true },
	{ "fault", fault_disk_open, true },
	{ NULL, NULL, false },
};

/* The row of @spec's type; *argument: what is behind the colon. */
static const struct disk_type *type_of(const char *spec, const char **argument)
{
	size_t length = strcspn(spec, ":");

	if (!spec[length])
		return NULL;
	for (const struct disk_type *t = disk_types; t->name; t++) {
		if (strlen(t->name) == length && !memcmp(t->name, spec, length)) {
			*argument = spec + length + 1;
			return t;
		}
	}
	return NULL;
}

const char *disk_spec_below(const char *argument, size_t *own)
{
	const char *unused;

	/* rules and file names may have commas: the first that a known type follows */
	for (const char *p = strchr(argument, ','); p; p = strchr(p + 1, ',')) {
		if (type_of(p + 1, &unused)) {
			*own = (size_t)(p - argument);
			return p + 1;
		}
	}
	return NULL;
}

const char *disk_spec_path(const char *spec)
{
	const struct disk_type *type;
	const char *argument;
	size_t own;

	while ((type = type_of(spec, &argument)) && type->filter) {
		spec = disk_spec_below(argument, &own);
		if (!spec)
			return NULL;
	}
	return type ? argument : NULL;
}

int disk_open(const char *spec, const struct disk_params *params, struct disk **out,
	      struct vhd_error *err)
{
	const char *argument;
	const struct disk_type *type = type_of(spec, &argument);

	if (!type)
		return error_set(err, -VHD_E_ARGUMENT,
				 "cannot open '%s': name it TYPE:PATH, with a type of vhd, aio, "
				 "raw, ram, null, log, fault",
				 spec);
	if (!argument[0])
		return error_set(err, -VHD_E_ARGUMENT, "cannot open '%s': nothing follows the type",
				 spec);
	if (params->key && !type->filter && type->open != vhd_disk_open)
		return error_set(err, -VHD_E_KEY,
				 "cannot open '%s' with a key: only VHD images are encrypted",
				 spec);
	return type->open(argument, params, out, err);
}

int disk_size_argument(const char *text, uint64_t *out, struct vhd_error *err)
{
	uint64_t bytes;

	if (!number_parse_size(text, &bytes) || !bytes || bytes % REQUEST_SECTOR ||
	    bytes > (UINT64_C(1) << 46))
		return error_set(err, -VHD_E_ARGUMENT,
				 "'%s' is no size of a disk: give a multiple of 512 bytes up to "
				 "64T, such as 64M",
				 text);
	*out = bytes;
	return 0;
}
