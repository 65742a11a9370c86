/* command.h - what a command of a program is: one row of a table
 *
 * Help, usage errors, completions and the man-page test are all made from it.
 * A command whose table has OPTION_NAME takes its image as -n FILE or as its first
 * operand.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "libvhd/vhd.h"

struct option_spec {
	char letter;	      /* 0: only the long form */
	const char *name;     /* long name, without dashes */
	const char *argument; /* NULL: a switch */
	const char *help;     /* one line */
};

/* Rows that several commands share.  --debug and --help belong to every command and
 * stand in no table. */
#define OPTION_NAME                              \
	{                                        \
		'n', "name", "FILE", "the image" \
	}
#define OPTION_JSON                           \
	{                                     \
		0, "json", NULL, "print JSON" \
	}
#define OPTION_DRY_RUN                                                       \
	{                                                                    \
		0, "dry-run", NULL, "say what would be done, change nothing" \
	}
#define OPTION_PARENT_ROOT                                                                 \
	{                                                                                  \
		0, "parent-root", "DIR", "take parents only from beneath DIR (repeatable)" \
	}

#define OPTION_KEY_FILE                                                                 \
	{                                                                               \
		0, "key-file", "FILE", "key of an encrypted image; - is standard input" \
	}

struct argument_seen {
	const struct option_spec *option; /* NULL: an operand */
	const char *value;
};

/* Parsed options: the value of each by its place in the command's table. */
struct arguments {
	const struct option_spec *specs;
	const char **values; /* of options given; "" for a switch; NULL: not given */
	bool *by_letter;     /* was the value given by the letter? */
	int count;	     /* what is left after the options */
	char **rest;
	char **operands; /* all of them; rest points into it */
	/* options and operands in the order they were given */
	struct argument_seen *seen;
	int seen_count;
	struct vhd_parents parents; /* from --parent-root, else VHD_PARENT_ROOT */
	struct vhd_key *key;	    /* owned; that of --key-file, or NULL */
	bool json, debug, dry_run;
};

/* Value of the option with long name @name; NULL when not given.  @name must be in the table. */
const char *arguments_get(const struct arguments *args, const char *name);
bool arguments_has(const struct arguments *args, const char *name);
/* Options that take a number or a size: 1 and *out when given and sound; 0 when not given; -1
 * after printing the usage error.  A size has the suffixes of number_parse_size(). */
int arguments_number(const struct arguments *args, const char *name, uint64_t *out);
int arguments_size(const struct arguments *args, const char *name, uint64_t *out);
/* As arguments_size for options whose letter keeps the unit of old scripts: given by letter,
 * a plain number of @unit bytes ("-s 100" is 100 MiB); by name, a size ("--size 1T"). */
int arguments_units(const struct arguments *args, const char *name, uint64_t unit, uint64_t *out);

/* Was the option given, and by its letter? */
bool arguments_by_letter(const struct arguments *args, const char *name);

struct command {
	const char *name;
	const char *summary;		   /* one line */
	const char *operands;		   /* "FILE", "SRC DST" */
	int min_rest, max_rest;		   /* operands besides a FILE given by -n; -1: any number */
	const struct option_spec *options; /* ends with a zero row; has -n where it applies */
	bool keys_apart; /* --key-file is of what follows it: run() reads those it meets */
	/* Returns an exit status.  Errors were printed by print_error(). */
	int (*run)(struct arguments *args);
};

/* The image of a command: -n, or the first operand (which is then taken out of rest).  NULL: none
 * was given, and the usage error was printed. */
const char *arguments_image(struct arguments *args);

/* What this program is: defined once by each. */
struct program {
	const char *name;
	const struct command *const *commands; /* in the order of the help; ends with NULL */
	/* or: no commands, only options and operands.  Its name is "". */
	const struct command *only;
};
extern const struct program program;

/* Prints a usage error of the running command to stderr, one line with the next step;
 * returns 22. */
int usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints "PROGRAM: TEXT" once to stderr and returns the exit status of the error. */
int print_error(const struct vhd_error *err);
/* The same for a warning; no status. */
void print_warning(const struct vhd_error *warning);

/* A progress function for long work: draws percent, rate and ETA on stderr if that is a
 * terminal (or when @always), else does nothing; its step also answers Ctrl-C: it
 * returns non-zero after SIGINT/SIGTERM, and the operation ends with
 * VHD_E_CANCELLED (exit status 130). */
struct vhd_progress progress_begin(const char *what, bool always);
void progress_end(void);
/* Work whose end is not known, and that may be ended at any time: how many of @unit are done, drawn
 * likewise on a terminal.  The first call begins; Ctrl-C ends the program, as without. */
void progress_count(const char *what, const char *unit, uint64_t done);
/* For work that takes no time: its warnings alone. */
struct vhd_progress progress_warnings(void);

#endif
