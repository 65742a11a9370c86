/* cmd-key.c - vhd-util key: the key hash of an image: set, check, print, or compute one */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/print.h"
#include "command.h"
#include "libvhd/base/number.h"
#include "libvhd/error.h"
#include "libvhd/path.h"

#define HEX_ROOM (2 * VHD_KEY_HASH + 1)

static const char *hex(const uint8_t bytes[VHD_KEY_HASH], char out[HEX_ROOM])
{
	number_hex(bytes, VHD_KEY_HASH, out);
	return out;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 :
				      -1;
}

/* 1 and *out; 0: not given; -1 after the usage error. */
static int hex_option(const struct arguments *args, const char *name, uint8_t out[VHD_KEY_HASH])
{
	const char *text = arguments_get(args, name);

	if (!text)
		return 0;
	for (unsigned i = 0; i < VHD_KEY_HASH; i++, text += 2) {
		int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);

		if (low < 0)
			break;
		out[i] = (uint8_t)(high << 4 | low);
		if (i + 1 == VHD_KEY_HASH && !text[2])
			return 1;
	}
	usage_error("--%s: %u hexadecimal digits are needed", name, 2 * VHD_KEY_HASH);
	return -1;
}

/* Key files are called IMAGE,aes-xts-plain,BITS.key by those who keep them: then the name says
 * what is to be in it. */
static int check_name(const struct arguments *args)
{
	const char *file = arguments_get(args, "key-file");
	const char *mark = strstr(path_base_name(file), ",aes-xts-plain,");
	char *end = NULL;
	long bits = mark ? strtol(mark + strlen(",aes-xts-plain,"), &end, 10) : 0;

	if (!mark || strcmp(end, ".key") != 0 || vhd_key_bits(args->key) == (unsigned)bits)
		return 0;
	return usage_error("the name of '%s' says %ld bits, but the key in it has %u", file, bits,
			   vhd_key_bits(args->key));
}

static void print_facts(const char *path, const struct vhd_key_info *info)
{
	struct print_json j;
	char text[HEX_ROOM];

	print_json_begin(&j, "key/1");
	print_json_text(&j, "file", path);
	print_json_bool(&j, "encrypted", info->encrypted);
	print_json_text(&j, "nonce", info->encrypted ? hex(info->nonce, text) : NULL);
	print_json_text(&j, "hash", info->encrypted ? hex(info->hash, text) : NULL);
	print_json_end(&j);
}

static int print_info(const struct arguments *args, const char *path)
{
	char nonce[HEX_ROOM], hash[HEX_ROOM];
	struct vhd_key_info info;
	struct vhd_error err = { 0 };

	if (vhd_key_info(path, &info, &err) < 0)
		return print_error(&err);
	if (args->json)
		print_facts(path, &info);
	else if (info.encrypted)
		printf("%s %s\n", hex(info.nonce, nonce), hex(info.hash, hash));
	else
		puts("none");
	return 0;
}

static int compute(const struct arguments *args)
{
	struct vhd_key_info info = { .encrypted = true };
	struct vhd_error err = { 0 };
	char text[HEX_ROOM];
	int rc;

	if (!args->key)
		return usage_error("the hash of which key? -k KEYFILE is missing");
	if (hex_option(args, "nonce", info.nonce) < 0 || check_name(args))
		return EINVAL;
	rc = vhd_key_hash(args->key, info.nonce, info.hash);
	if (rc < 0) {
		error_system(&err, rc, "compute the hash of", arguments_get(args, "key-file"));
		return print_error(&err);
	}
	if (args->json)
		print_facts(NULL, &info);
	else
		puts(hex(info.hash, text));
	return 0;
}

static int set(const struct arguments *args, const char *path)
{
	uint8_t nonce[VHD_KEY_HASH], hash[VHD_KEY_HASH];
	struct vhd_key_options o = { .key = args->key,
				     .dry_run = args->dry_run,
				     .force = arguments_has(args, "force") };
	int has_nonce = hex_option(args, "nonce", nonce), has_hash = hex_option(args, "hash", hash);
	struct vhd_error err = { 0 };

	if (has_nonce < 0 || has_hash < 0)
		return EINVAL;
	if ((args->key != NULL) == has_hash)
		return usage_error("-s needs either -k KEYFILE or -H HEX");
	if (args->key && check_name(args))
		return EINVAL;
	o.hash = has_hash ? hash : NULL;
	o.nonce = has_nonce ? nonce : NULL;
	if (vhd_key_set(path, &o, &err) < 0)
		return print_error(&err);
	if (args->dry_run)
		printf("would set the key hash of '%s'\n", path);
	return 0;
}

static int check(const struct arguments *args, const char *path)
{
	struct vhd_error err = { 0 };

	if (!args->key)
		return usage_error("which key? -k KEYFILE is missing");
	if (arguments_has(args, "nonce") || arguments_has(args, "hash"))
		return usage_error("-c takes the nonce and the hash from the image");
	if (check_name(args))
		return EINVAL;
	return vhd_key_check(path, args->key, &err) < 0 ? print_error(&err) : 0;
}

static int run_key(struct arguments *args)
{
	bool want_set = arguments_has(args, "set"), want_check = arguments_has(args, "check");
	bool want_print = arguments_has(args, "print");
	const char *path;
	int status = 0;

	if (arguments_has(args, "compute")) {
		if (want_set || want_check || want_print)
			return usage_error("-C computes a hash: it goes with -k and -N only");
		return compute(args);
	}
	if (want_set == want_check && (want_set || !want_print))
		return usage_error("one of -s (set), -c (check), -p (print), -C (compute) is "
				   "needed");
	path = arguments_image(args);
	if (!path)
		return EINVAL;
	if (want_set)
		status = set(args, path);
	else if (want_check)
		status = check(args, path);
	return !status && want_print ? print_info(args, path) : status;
}

static const struct option_spec key_options[] = {
	OPTION_NAME,
	{ 's', "set", NULL, "set the key hash of an image without data: it will be encrypted" },
	{ 'c', "check", NULL, "is the key the image's?" },
	{ 'p', "print", NULL, "print nonce and hash, or none" },
	{ 'C', "compute", NULL, "print the hash of a key" },
	{ 'k', "key-file", "FILE", "32 or 64 bytes; - is standard input" },
	{ 'H', "hash", "HEX", "with -s: the hash, instead of a key" },
	{ 'N', "nonce", "HEX", "what is hashed before the key (32 bytes)" },
	{ 0, "force", NULL, "with -s: what it has is ciphertext of that key, the hash was lost" },
	OPTION_JSON,
	OPTION_DRY_RUN,
	{ 0 },
};

const struct command command_key = {
	.name = "key",
	.summary = "the key hash of an encrypted image: set, check, print",
	.operands = "FILE",
	.min_rest = -1, /* -C goes without an image */
	.options = key_options,
	.run = run_key,
};
