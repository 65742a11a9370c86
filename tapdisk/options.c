/* options.c - from the option table and the configuration file to struct options
 *
 * The configuration file has lines "key = value" for some of the long options; the command
 * line wins.  '#' begins a comment.  A key that is not known is an error.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/key.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"

#define CONFIG_MAX  (64u << 10)
#define SECOND	    1000000000ull
#define MICROSECOND 1000ull
#define POLL_US	    50u
#define POLL_US_MAX 1000u

const struct option_spec tapdisk_options[] = {
	{ 0, "name", "NAME",
	  "export name of the disk that follows (default: its file's, no suffix)" },
	{ 0, "key-file", "FILE", "key of the encrypted image that follows; - is standard input" },
	{ 0, "nbd", "ADDRESS", "serve NBD at unix:PATH or tcp:HOST:PORT (repeatable)" },
	{ 'R', "read-only", NULL, "refuse writes" },
	{ 0, "writethrough", NULL, "make each write durable before answering" },
	{ 'D', "buffered", NULL, "use the page cache instead of O_DIRECT" },
	{ 0, "force", NULL, "open a hidden image too" },
	{ 0, "cache", "SIZE", "memory for metadata of a disk (default 64M)" },
	{ 0, "memory", "SIZE", "memory for the payloads of all clients together (default 512M)" },
	{ 0, "tls-certs", "DIR", "TLS with ca-cert.pem, server-cert.pem, server-key.pem of DIR" },
	{ 0, "tls-psk", "FILE", "TLS with the pre-shared keys of FILE" },
	{ 0, "tls", "MODE", "offer or require TLS (default require)" },
	{ 0, "tls-authz", "NAME", "allow only clients of that name (repeatable)" },
	{ 0, "engine", "NAME", "disk I/O by uring, aio or threads (default: the best there is)" },
	{ 0, "retry-time", "SECONDS",
	  "try failed I/O again for so long, or 'forever' (default 120)" },
	{ 0, "poll-us", "N",
	  "look for an expected event up to N microseconds before sleeping (default 50; 0: not)" },
	{ 0, "iops", "N", "no more requests a second, each disk" },
	{ 0, "bps", "SIZE", "no more bytes a second, each disk" },
	OPTION_PARENT_ROOT,
	{ 0, "run-dir", "DIR", "where the control socket goes" },
	{ 0, "empty", NULL, "start without a disk; tap-ctl attaches them" },
	{ 0, "daemon", NULL, "go into the background once everything is open; print the pid" },
	{ 0, "pid-file", "FILE", "write the pid there, remove it at the end" },
	{ 0, "log", "WHERE", "stderr or syslog (default stderr)" },
	{ 0, "log-level", "LEVEL", "error, warning, info or debug (default info)" },
	{ 0, "config", "FILE", "read FILE instead of " OPTIONS_CONFIG },
	{ 0 },
};

static int set_engine(struct options *o, const char *value)
{
	static const char *const names[] = { "auto", "uring", "aio", "threads" };

	for (unsigned i = 0; i < 4; i++) {
		if (!strcmp(value, names[i])) {
			o->engine = (enum engine_kind)i;
			return 0;
		}
	}
	return usage_error("--engine '%s': give uring, aio or threads", value);
}

static int set_retry(struct options *o, const char *value)
{
	uint64_t seconds;

	if (!strcmp(value, "forever"))
		o->retry_ns = RETRY_FOREVER;
	else if (number_parse(value, &seconds) && seconds < UINT64_MAX / SECOND)
		o->retry_ns = seconds * SECOND;
	else
		return usage_error("--retry-time '%s': give seconds, or 'forever'", value);
	return 0;
}

static int set_poll(struct options *o, const char *value)
{
	uint64_t us;

	if (!number_parse(value, &us) || us > POLL_US_MAX)
		return usage_error("--poll-us '%s': give microseconds, %u at most", value,
				   POLL_US_MAX);
	o->spin_ns = us * MICROSECOND;
	return 0;
}

static int set_cache(struct options *o, const char *value)
{
	if (!number_parse_size(value, &o->disk.cache_bytes) || o->disk.cache_bytes < 1u << 20)
		return usage_error("--cache '%s': give a size of at least 1M", value);
	return 0;
}

static int set_memory(struct options *o, const char *value)
{
	if (!number_parse_size(value, &o->memory_bytes) || o->memory_bytes < NBD_MEMORY_MIN)
		return usage_error("--memory '%s': give a size of at least 128M", value);
	return 0;
}

static int set_level(struct options *o, const char *value)
{
	if (!log_level_parse(value, &o->log_level))
		return usage_error("--log-level '%s': give error, warning, info or debug", value);
	return 0;
}

static int set_root(struct options *o, const char *value)
{
	unsigned n = 0;

	while (o->roots[n])
		n++;
	if (n == OPTIONS_ROOTS_MAX)
		return usage_error("more than %u parent roots", OPTIONS_ROOTS_MAX);
	if (value[0] != '/')
		return usage_error("parent-root '%s': give an absolute path", value);
	o->roots[n] = value;
	return 0;
}

/* ── configuration file ── */

static const struct {
	const char *key;
	int (*set)(struct options *o, const char *value);
} keys[] = {
	{ "parent-root", set_root }, { "engine", set_engine }, { "retry-time", set_retry },
	{ "poll-us", set_poll },     { "cache", set_cache },   { "memory", set_memory },
	{ "log-level", set_level },
};

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && strchr(" \t\r", end[-1]))
		*--end = '\0';
	return s + strspn(s, " \t");
}

static int config_line(struct options *o, const char *file, unsigned number, char *line)
{
	char *value;

	line[strcspn(line, "#")] = '\0';
	line = trim(line);
	if (!*line)
		return 0;
	value = strchr(line, '=');
	if (value) {
		*value++ = '\0';
		line = trim(line);
		value = trim(value);
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (!strcmp(line, keys[i].key))
				return keys[i].set(o, value);
	}
	return usage_error("%s, line %u: '%s' is no setting; there are parent-root, engine, "
			   "retry-time, poll-us, cache, memory, log-level",
			   file, number, line);
}

static int read_config(struct options *o, const char *file, bool must)
{
	FILE *f = fopen(file, "re");
	struct vhd_error err;
	unsigned number = 0;
	size_t n;
	int status = 0;

	if (!f && errno == ENOENT && !must)
		return 0;
	o->config = f ? malloc(CONFIG_MAX) : NULL;
	if (!o->config) {
		error_system(&err, f ? -ENOMEM : -errno, "read", file);
		if (f)
			fclose(f);
		return print_error(&err);
	}
	n = fread(o->config, 1, CONFIG_MAX, f);
	fclose(f);
	if (n == CONFIG_MAX || memchr(o->config, 0, n))
		return usage_error("%s is no configuration file: it %s", file,
				   n == CONFIG_MAX ? "is too long" : "has NUL bytes");
	o->config[n] = '\0';
	for (char *line = o->config, *next; line && !status; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		status = config_line(o, file, ++number, line);
	}
	return status;
}

/* ── command line ── */

static int read_allowed(const struct arguments *args, struct options *o)
{
	unsigned count = 0;

	for (int i = 0; i < args->seen_count; i++) {
		const struct argument_seen *seen = &args->seen[i];

		if (!seen->option || strcmp(seen->option->name, "tls-authz") != 0)
			continue;
		if (!*seen->value)
			return usage_error("--tls-authz: an empty name is no name");
		if (count == OPTIONS_ALLOWED_MAX)
			return usage_error("more than %u --tls-authz", OPTIONS_ALLOWED_MAX);
		o->tls_allowed[count++] = seen->value;
	}
	if (count && o->tls != NBD_TLS_REQUIRED)
		return usage_error("--tls-authz needs TLS that is required: who comes in clear has "
				   "no name");
	return 0;
}

static int read_tls(const struct arguments *args, struct options *o)
{
	const char *mode = arguments_get(args, "tls");

	o->tls_certs = arguments_get(args, "tls-certs");
	o->tls_psk = arguments_get(args, "tls-psk");
	if (o->tls_certs && o->tls_psk)
		return usage_error("--tls-certs and --tls-psk exclude each other");
	if (mode && strcmp(mode, "require") != 0 && strcmp(mode, "offer") != 0)
		return usage_error("--tls '%s': give require or offer", mode);
	if (mode && !o->tls_certs && !o->tls_psk)
		return usage_error("--tls needs --tls-certs or --tls-psk");
	if (o->tls_certs || o->tls_psk)
		o->tls = mode && !strcmp(mode, "offer") ? NBD_TLS_OFFERED : NBD_TLS_REQUIRED;
	return read_allowed(args, o);
}

static int read_disks(const struct arguments *args, struct options *o)
{
	const char *name = NULL;
	struct vhd_key *key = NULL;
	int status;

	for (int i = 0; i < args->seen_count; i++) {
		const struct argument_seen *seen = &args->seen[i];

		if (seen->option && !strcmp(seen->option->name, "name")) {
			name = seen->value;
		} else if (seen->option && !strcmp(seen->option->name, "key-file")) {
			vhd_key_put(key);
			status = key_load(seen->value, &key);
			if (status)
				return status;
		} else if (seen->option && !strcmp(seen->option->name, "nbd")) {
			if (o->listen_count == OPTIONS_LISTEN_MAX)
				return usage_error("more than %u --nbd", OPTIONS_LISTEN_MAX);
			o->listen[o->listen_count++] = (struct nbd_params){ .address = seen->value,
									    .fd = -1 };
		} else if (!seen->option) {
			if (o->disk_count == OPTIONS_DISKS_MAX)
				return usage_error("more than %u disks", OPTIONS_DISKS_MAX);
			o->disks[o->disk_count].spec = seen->value;
			o->disks[o->disk_count].key = key;
			o->disks[o->disk_count++].name = name;
			name = NULL;
			key = NULL;
		}
	}
	if (key) {
		vhd_key_put(key);
		return usage_error("a --key-file is followed by no disk");
	}
	if (name)
		return usage_error("--name '%s' is followed by no disk", name);
	if (!o->disk_count != o->empty)
		return usage_error(o->empty ? "--empty goes without disks" :
					      "no disk: give TYPE:PATH, such as vhd:disk.vhd");
	return 0;
}

static int read_values(const struct arguments *args, struct options *o)
{
	static const struct {
		const char *name;
		int (*set)(struct options *o, const char *value);
	} values[] = { { "engine", set_engine }, { "retry-time", set_retry },
		       { "poll-us", set_poll },	 { "cache", set_cache },
		       { "memory", set_memory }, { "log-level", set_level } };
	const char *where = arguments_get(args, "log");

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		const char *value = arguments_get(args, values[i].name);
		int status = value ? values[i].set(o, value) : 0;

		if (status)
			return status;
	}
	if (where && strcmp(where, "stderr") != 0 && strcmp(where, "syslog") != 0)
		return usage_error("--log '%s': give stderr or syslog", where);
	o->to_syslog = where && !strcmp(where, "syslog");
	if (arguments_number(args, "iops", &o->limits.iops) < 0 ||
	    arguments_size(args, "bps", &o->limits.bytes) < 0)
		return EINVAL;
	return 0;
}

int options_read(const struct arguments *args, struct options *o)
{
	const char *config = arguments_get(args, "config");
	int status;

	memset(o, 0, sizeof(*o));
	o->retry_ns = 120 * SECOND;
	o->spin_ns = POLL_US * MICROSECOND;
	o->log_level = LOG_LEVEL_INFO;
	status = read_config(o, config ? config : OPTIONS_CONFIG, config != NULL);
	if (!status)
		status = read_values(args, o);
	o->disk.read_only = arguments_has(args, "read-only");
	o->disk.writethrough = arguments_has(args, "writethrough");
	o->disk.buffered = arguments_has(args, "buffered");
	o->disk.force = arguments_has(args, "force");
	o->disk.lock_wait_ms = 5000;
	o->disk.parents.beneath_only = true;
	o->disk.parents.roots = args->parents.roots ? args->parents.roots :
				o->roots[0]	    ? o->roots :
						      NULL;
	o->run_dir = arguments_get(args, "run-dir");
	o->pid_file = arguments_get(args, "pid-file");
	o->daemon = arguments_has(args, "daemon");
	o->empty = arguments_has(args, "empty");
	if (!status)
		status = read_tls(args, o);
	if (!status)
		status = read_disks(args, o);
	for (unsigned i = 0; i < o->listen_count; i++) {
		const char *address = o->listen[i].address;

		o->listen[i] = options_listener(o);
		o->listen[i].address = address;
	}
	return status;
}

struct nbd_params options_listener(const struct options *o)
{
	return (struct nbd_params){ .fd = -1,
				    .tls = o->tls,
				    .tls_certs = o->tls_certs,
				    .tls_psk = o->tls_psk,
				    .tls_allowed = o->tls_allowed[0] ? o->tls_allowed : NULL };
}

void options_release(struct options *o)
{
	for (unsigned i = 0; i < o->disk_count; i++)
		vhd_key_put(o->disks[i].key);
	free(o->config);
}
