/* cmd-scan.c - vhd-util scan: list many images
 *
 * Lines are printed as images are read; a tree and JSON, which say how images belong together,
 * when all of them were.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "libvhd/error.h"
#include "scan.h"

struct scan {
	struct scan_style style;
	struct scan_names *names;
	struct scan_volumes volumes;
	struct scan_list list;
	bool keep;     /* in the list, for a tree or JSON */
	bool keep_bad; /* failing images too */
	bool go_on;    /* after a failure */
	bool parents;  /* visit them */
	uint64_t seen;
	int status; /* of the first failure */
	struct vhd_error failure;
};

static int failed(struct scan *s, const struct vhd_error *err)
{
	s->failure = *err;
	s->status = vhd_exit_status(err->code);
	return 1;
}

static int no_memory(struct scan *s)
{
	struct vhd_error err;

	error_set(&err, -ENOMEM, "cannot scan: %s", vhd_strerror(-ENOMEM));
	s->go_on = false;
	return failed(s, &err);
}

/* Print it, or keep it for later. */
static int tell(struct scan *s, const struct vhd_scan_image *image)
{
	struct scan_record r;
	char parent[4096];

	if (s->keep && (s->keep_bad || !image->error))
		return scan_list_add(&s->list, image) < 0 ? no_memory(s) : 0;
	r = scan_record_of(image);
	if (r.parent && s->volumes.group) {
		scan_volumes_parent(&s->volumes, r.parent, parent);
		r.parent = s->style.full_names ? r.parent : parent;
	}
	scan_print_line(&s->style, &r, 0, "");
	return print_failed() ? 1 : 0;
}

static int tell_failure(struct scan *s, const struct vhd_scan_image *image)
{
	int rc = tell(s, image);

	return rc || s->go_on ? rc : failed(s, image->error);
}

/* A parent that is to be visited and is not there. */
static int tell_missing(struct scan *s, const struct vhd_scan_image *child)
{
	struct vhd_scan_image missing = { .name = child->parent, .error = child->parent_error };
	struct vhd_error err;

	if (!missing.error) {
		error_set(&err, -VHD_E_PARENT_MISSING, "the parent of '%s' is missing",
			  child->path ? child->path : child->name);
		missing.error = &err;
	}
	return tell_failure(s, &missing);
}

static int on_image(void *arg, const struct vhd_scan_image *image)
{
	struct scan *s = arg;
	int rc;

	if (s->keep) /* else the lines show how far it is */
		progress_count("scanning", "images", ++s->seen);
	if (!scan_names_told(s->names, image))
		return 0;
	if (image->error)
		return tell_failure(s, image);
	rc = tell(s, image);
	if (rc || !s->parents || !image->parent)
		return rc;
	rc = scan_names_add_parent(s->names, image);
	return rc < 0 ? no_memory(s) : rc ? tell_missing(s, image) : 0;
}

static bool next_name(void *arg, struct vhd_scan_name *out)
{
	return scan_names_next(((struct scan *)arg)->names, out);
}

/* A volume by its name. */
static int open_volume(void *arg, const char *name, struct vhd_io **out, struct vhd_error *err)
{
	const struct scan_volumes *v = arg;
	const struct scan_volume *volume = scan_volumes_find(v, name);

	if (!volume)
		return error_set(err, -ENOENT, "cannot open '%s': no such volume in group '%s'",
				 name, v->group);
	return scan_volume_open(volume, out, err);
}

static void finish(struct scan *s, bool tree, bool json)
{
	if (!s->keep)
		return;
	if (scan_list_link(&s->list, tree) < 0)
		no_memory(s);
	else if (json)
		scan_print_json(&s->style, &s->list);
	else
		scan_print_tree(&s->style, &s->list);
}

static int scan_all(struct scan *s, const struct arguments *args, const struct scan_wish *wish)
{
	const struct scan_opener opener = { open_volume, &s->volumes };
	bool tree = arguments_has(args, "pretty");
	struct vhd_scan_options o = {
		/* a tree needs to know who the parent is */
		.brief = arguments_has(args, "fast") && !s->keep,
		.parents = args->parents,
		.next = next_name,
		.image = on_image,
		.arg = s,
	};
	struct vhd_error err = { 0 };
	int rc = scan_names_open(wish, &s->names, &err);

	if (rc < 0)
		return print_error(&err);
	rc = scan_run(&o, wish->volumes ? &opener : NULL, &err);
	progress_end();
	if (rc < 0)
		return print_error(&err);
	finish(s, tree, args->json);
	if (s->status && !s->go_on)
		return print_error(&s->failure);
	return 0;
}

static int run_scan(struct arguments *args)
{
	struct scan s = {
		.style = { arguments_has(args, "verbose"), arguments_has(args, "markers") },
		.keep = args->json || arguments_has(args, "pretty"),
		.keep_bad = args->json,
		.go_on = arguments_has(args, "continue"),
		.parents = arguments_has(args, "parents"),
	};
	struct scan_wish wish = {
		.files = args->rest,
		.count = args->count,
		.match = arguments_get(args, "match"),
		.recursive = arguments_has(args, "recursive"),
		.parents = s.parents,
	};
	const char *group = arguments_get(args, "volume-group");
	struct vhd_error err = { 0 };
	int status;

	if (!wish.count && !wish.match && !group && !wish.recursive)
		return usage_error("nothing was named: FILES, -m GLOB, -r or -l GROUP");
	if (group) {
		if (scan_volumes_load(group, &s.volumes, &err) < 0) {
			scan_volumes_release(&s.volumes);
			return print_error(&err);
		}
		wish.volumes = s.list.volumes = &s.volumes;
	}
	status = scan_all(&s, args, &wish);
	scan_names_close(s.names);
	scan_list_release(&s.list);
	scan_volumes_release(&s.volumes);
	return status;
}

static const struct option_spec scan_options[] = {
	{ 'f', "fast", NULL, "take the parent's name from the header, do not look for it" },
	{ 'c', "continue", NULL, "go on after a failure, and end with status 0" },
	{ 'l', "volume-group", "GROUP", "the images are logical volumes of this group" },
	{ 'p', "pretty", NULL, "a tree of parents and children" },
	{ 'a', "parents", NULL, "visit the parents too" },
	{ 'v', "verbose", NULL, "whole paths instead of base names" },
	{ 'M', "markers", NULL, "also the marker and the hash of the key" },
	{ 'm', "match", "GLOB", "images whose names match" },
	{ 'r', "recursive", NULL, "walk directories; a GLOB without / is for names found there" },
	OPTION_PARENT_ROOT,
	OPTION_JSON,
	{ 0 },
};

const struct command command_scan = {
	.name = "scan",
	.summary = "list many images",
	.operands = "[FILES]",
	.max_rest = -1,
	.options = scan_options,
	.run = run_scan,
};
