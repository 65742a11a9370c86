/* arguments.c - from the command line to struct arguments, by the command's table
 *
 * getopt_long does the reading; its tables are made from the command's rows.
 * Value k of getopt_long is FIRST_ROW + k, so that options without a letter
 * need no numbers of their own.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "key.h"
#include "libvhd/base/cleanup.h"
#include "libvhd/base/number.h"

#define FIRST_ROW 1000
#define HELP	  (FIRST_ROW - 1)
#define DEBUG	  (FIRST_ROW - 2)
#define OPERAND	  1 /* what getopt_long says for one */

#define USAGE_STATUS EINVAL

/* The command under way, for usage_error(). */
static const char *running = "";

int usage_error(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s: %s%s", program.name, running, *running ? ": " : "");
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "; see %s %s%s--help\n", program.name, running, *running ? " " : "");
	return USAGE_STATUS;
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[64];
	size_t length = strlen(b);

	if (length >= sizeof(row) / sizeof(row[0]))
		return SIZE_MAX;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < length; j++) {
			size_t best = diagonal + (a[i] != b[j]);

			diagonal = row[j + 1];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			row[j + 1] = best;
		}
	}
	return row[length];
}

const char *arguments_suggest(const char *given, const char *const *names, size_t count)
{
	const char *best = NULL;
	size_t least = strlen(given) / 3 + 2; /* further off is no slip of the finger */

	for (size_t k = 0; k < count; k++) {
		size_t distance = edit_distance(given, names[k]);

		/* what was begun and not finished counts as near */
		if (strlen(given) >= 3 && !strncmp(given, names[k], strlen(given)))
			distance = 1;
		if (distance < least) {
			least = distance;
			best = names[k];
		}
	}
	return best;
}

static size_t count_rows(const struct option_spec *specs)
{
	size_t rows = 0;

	while (specs[rows].name)
		rows++;
	return rows;
}

static int find_row(const struct option_spec *specs, const char *name)
{
	for (int k = 0; specs[k].name; k++)
		if (!strcmp(specs[k].name, name))
			return k;
	return -1;
}

const char *arguments_get(const struct arguments *args, const char *name)
{
	int row = find_row(args->specs, name);

	return row < 0 ? NULL : args->values[row];
}

bool arguments_has(const struct arguments *args, const char *name)
{
	return arguments_get(args, name) != NULL;
}

int arguments_number(const struct arguments *args, const char *name, uint64_t *out)
{
	const char *text = arguments_get(args, name);

	if (!text)
		return 0;
	if (number_parse(text, out))
		return 1;
	usage_error("--%s: '%s' is not a number", name, text);
	return -1;
}

int arguments_size(const struct arguments *args, const char *name, uint64_t *out)
{
	const char *text = arguments_get(args, name);

	if (!text)
		return 0;
	if (number_parse(text, out) || number_parse_size(text, out))
		return 1;
	usage_error("--%s: '%s' is not a size (such as 4096, 512K, 10G)", name, text);
	return -1;
}

int arguments_units(const struct arguments *args, const char *name, uint64_t unit, uint64_t *out)
{
	int row = find_row(args->specs, name);
	uint64_t count;

	if (row < 0 || !args->values[row])
		return 0;
	if (!args->by_letter[row])
		return arguments_size(args, name, out);
	if (number_parse(args->values[row], &count) && number_mul(count, unit, out))
		return 1;
	usage_error("-%c: '%s' is not a number", args->specs[row].letter, args->values[row]);
	return -1;
}

bool arguments_by_letter(const struct arguments *args, const char *name)
{
	int row = find_row(args->specs, name);

	return row >= 0 && args->values[row] && args->by_letter[row];
}

const char *arguments_image(struct arguments *args)
{
	const char *image = arguments_get(args, "name");

	if (!image && args->count > 0) {
		image = args->rest[0];
		args->rest++;
		args->count--;
	}
	if (!image || !*image) {
		usage_error("no image was named: -n FILE");
		return NULL;
	}
	return image;
}

/* What getopt_long wants, made from the table. */
struct getopt_tables {
	char *letters;
	struct option *longs;
};

static void tables_release(struct getopt_tables *t)
{
	free(t->letters);
	free(t->longs);
}

/* Is there an image to be named by -n or as the first operand? */
static bool has_image(const struct option_spec *specs)
{
	int row = find_row(specs, "name");

	return row >= 0 && specs[row].letter == 'n';
}

static bool tables_make(const struct option_spec *specs, size_t rows, struct getopt_tables *t)
{
	size_t at = 0;

	t->letters = calloc(rows * 2 + 4, 1);
	t->longs = calloc(rows + 3, sizeof(*t->longs));
	if (!t->letters || !t->longs)
		return false;
	t->letters[at++] = '-'; /* operands in their place among the options */
	t->letters[at++] = ':'; /* messages are ours */
	t->letters[at++] = 'h';
	for (size_t k = 0; k < rows; k++) {
		t->longs[k].name = specs[k].name;
		t->longs[k].has_arg = specs[k].argument ? required_argument : no_argument;
		t->longs[k].val = FIRST_ROW + (int)k;
		if (!specs[k].letter)
			continue;
		t->letters[at++] = specs[k].letter;
		if (specs[k].argument)
			t->letters[at++] = ':';
	}
	t->longs[rows] = (struct option){ "help", no_argument, NULL, HELP };
	t->longs[rows + 1] = (struct option){ "debug", no_argument, NULL, DEBUG };
	return true;
}

/* The row that an answer of getopt_long means; -1: none. */
static int row_of(const struct option_spec *specs, int answer)
{
	if (answer >= FIRST_ROW)
		return answer - FIRST_ROW;
	for (int k = 0; specs[k].name; k++)
		if (specs[k].letter && specs[k].letter == answer)
			return k;
	return -1;
}

static int unknown_option(const struct option_spec *specs, size_t rows, char **argv)
{
	CLEANUP_FREE const char **names = calloc(rows + 1, sizeof(*names));
	const char *given = argv[optind - 1];
	const char *near = NULL;
	char bare[64];

	if (optopt && optopt < FIRST_ROW - 2)
		return usage_error("unknown option '-%c'", optopt);
	if (optopt) /* a known long option: getopt_long minds its value */
		return usage_error("option '%s' takes no value", given);
	snprintf(bare, sizeof(bare), "%s", given + strspn(given, "-"));
	bare[strcspn(bare, "=")] = 0;
	if (names) {
		for (size_t k = 0; k < rows; k++)
			names[k] = specs[k].name;
		near = arguments_suggest(bare, names, rows);
	}
	if (near)
		return usage_error("unknown option '%s' (did you mean --%s?)", given, near);
	return usage_error("unknown option '%s'", given);
}

/* Directories named by repeated --parent-root: @roots grows by one. */
static bool add_root(struct arguments *args, const char *directory)
{
	const char **old = (const char **)(void *)args->parents.roots;
	const char **roots;
	size_t count = 0;

	while (old && old[count])
		count++;
	roots = realloc(old, (count + 2) * sizeof(*roots));
	if (!roots)
		return false;
	roots[count] = directory;
	roots[count + 1] = NULL;
	args->parents.roots = roots;
	return true;
}

/* VHD_PARENT_ROOT counts where the command line says nothing.  The pieces live as
 * long as the process does, like the environment they come from. */
static bool add_roots_of_environment(struct arguments *args)
{
	char *list = getenv("VHD_PARENT_ROOT");

	if (!list || find_row(args->specs, "parent-root") < 0 || args->parents.roots)
		return true;
	for (char *end; list; list = end) {
		end = strchr(list, ':');
		if (end)
			*end++ = 0;
		if (*list && !add_root(args, list))
			return false;
	}
	return true;
}

static int out_of_memory(void)
{
	struct vhd_error err = { .code = -ENOMEM };

	return print_error(&err);
}

static void take_operand(struct arguments *args, char *operand)
{
	args->operands[args->count++] = operand;
	args->seen[args->seen_count++] = (struct argument_seen){ NULL, operand };
}

static int take_option(const struct command *command, struct arguments *args, int answer)
{
	int row;

	if (answer == DEBUG) {
		args->debug = true;
		return 0;
	}
	if (answer == OPERAND) {
		take_operand(args, optarg);
		return 0;
	}
	row = row_of(command->options, answer);
	if (row < 0) /* -h of a table that does not have it */
		return ARGUMENTS_HELP;
	args->values[row] = optarg ? optarg : "";
	args->by_letter[row] = answer < FIRST_ROW;
	args->seen[args->seen_count++] = (struct argument_seen){ &command->options[row],
								 args->values[row] };
	if (!strcmp(command->options[row].name, "parent-root")) {
		if (!*optarg)
			return usage_error("--parent-root: empty");
		if (!add_root(args, optarg))
			return out_of_memory();
	}
	return 0;
}

/* Are there as many operands as the command wants, an image given by -n counted out? */
static int check_operands(const struct command *command, const struct arguments *args)
{
	int images = has_image(args->specs) && !arguments_has(args, "name") ? 1 : 0;

	if (command->max_rest >= 0 && args->count > command->max_rest + images)
		return usage_error("what is '%s' for?  It takes %s",
				   args->rest[command->max_rest + images],
				   *command->operands ? command->operands : "no operands");
	if (args->count < command->min_rest + images)
		return usage_error(images && !args->count ? "no image was named: %s" :
							    "something is missing: %s",
				   command->operands);
	return 0;
}

/* A bound of what may be seen. */
static size_t count_letters(int argc, char **argv)
{
	size_t letters = 1;

	for (int k = 0; k < argc; k++)
		letters += strlen(argv[k]) + 1;
	return letters;
}

int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *args)
{
	size_t rows = count_rows(command->options);
	CLEANUP(tables_release) struct getopt_tables tables = { 0 };
	int answer, rc;

	*args = (struct arguments){ .specs = command->options };
	running = command->name;
	args->values = calloc(rows + 1, sizeof(*args->values));
	args->by_letter = calloc(rows + 1, sizeof(*args->by_letter));
	args->operands = calloc((size_t)argc + 1, sizeof(*args->operands));
	/* "-sd" is several options in one word, but never more than it has letters */
	args->seen = calloc(count_letters(argc, argv), sizeof(*args->seen));
	if (!args->values || !args->by_letter || !args->operands || !args->seen ||
	    !tables_make(command->options, rows, &tables))
		return out_of_memory();
	optind = 1;
	opterr = 0;
	while ((answer = getopt_long(argc, argv, tables.letters, tables.longs, NULL)) != -1) {
		if (answer == '?')
			return unknown_option(command->options, rows, argv);
		if (answer == ':')
			return usage_error("option '%s' needs a value", argv[optind - 1]);
		rc = answer == HELP ? ARGUMENTS_HELP : take_option(command, args, answer);
		if (rc)
			return rc;
	}
	for (; optind < argc; optind++) /* behind "--" */
		take_operand(args, argv[optind]);
	args->rest = args->operands;
	args->json = arguments_has(args, "json");
	args->dry_run = arguments_has(args, "dry-run");
	if (!add_roots_of_environment(args))
		return out_of_memory();
	rc = check_operands(command, args);
	if (rc || command->keys_apart)
		return rc;
	return key_option(args, "key-file", &args->key);
}

void arguments_release(struct arguments *args)
{
	free(args->values);
	free(args->by_letter);
	free(args->operands);
	free(args->seen);
	free((void *)args->parents.roots);
	vhd_key_put(args->key);
	*args = (struct arguments){ 0 };
}
