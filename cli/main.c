/* main.c - PROGRAM COMMAND [OPTIONS]: find the command, run it, answer for stdout
 *
 * Results go to stdout, everything else to stderr.  A result that could not
 * be written (closed pipe, full disk) is an error like any other.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "complete.h"
#include "print.h"
#include "streams.h"

static const struct command *find_command(const char *name)
{
	for (size_t k = 0; program.commands[k]; k++)
		if (!strcmp(program.commands[k]->name, name))
			return program.commands[k];
	return NULL;
}

static void print_overview(FILE *to)
{
	fprintf(to, "usage: %s COMMAND [OPTIONS]\n\ncommands:\n", program.name);
	for (size_t k = 0; program.commands[k]; k++)
		fprintf(to, "  %-10s %s\n", program.commands[k]->name,
			program.commands[k]->summary);
	fprintf(to,
		"\n'%s COMMAND --help' tells about one of them; --version prints the version.\n",
		program.name);
}

static void print_option(const struct option_spec *o)
{
	char text[64];

	snprintf(text, sizeof(text), "%s--%s%s%s", "", o->name, o->argument ? " " : "",
		 o->argument ? o->argument : "");
	if (o->letter)
		printf("  -%c, %-24s %s\n", o->letter, text, o->help);
	else
		printf("      %-24s %s\n", text, o->help);
}

static void print_command_help(const struct command *command)
{
	static const struct option_spec everywhere[] = {
		{ 0, "debug", NULL, "say more about errors on standard error" },
		{ 'h', "help", NULL, "print this and end" },
	};

	printf("usage: %s %s%s[OPTIONS] %s\n\n%s\n\noptions:\n", program.name, command->name,
	       *command->name ? " " : "", command->operands, command->summary);
	for (const struct option_spec *o = command->options; o->name; o++)
		print_option(o);
	for (size_t k = 0; k < 2; k++)
		print_option(&everywhere[k]);
}

static int unknown_command(const char *name)
{
	const char *names[64];
	const char *near;
	size_t count = 0;

	while (program.commands[count] && count < sizeof(names) / sizeof(names[0])) {
		names[count] = program.commands[count]->name;
		count++;
	}
	near = arguments_suggest(name, names, count);
	if (near)
		fprintf(stderr, "%s: unknown command '%s'; did you mean '%s'?\n", program.name,
			name, near);
	else
		fprintf(stderr, "%s: unknown command '%s'; see %s --help\n", program.name, name,
			program.name);
	return EINVAL;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct arguments args;
	int status = arguments_parse(command, argc, argv, &args);

	if (status == ARGUMENTS_HELP) {
		print_command_help(command);
		status = 0;
	} else if (!status) {
		print_set_debug(args.debug);
		status = command->run(&args);
	}
	arguments_release(&args);
	return status;
}

/* What stands in the place of a command: -1 if it is none of these, else the status. */
static int run_general(int argc, char **argv)
{
	if (!strcmp(argv[1], "--version")) {
		printf("%s %s\n", program.name, vhd_version());
		return 0;
	}
	if (!strcmp(argv[1], "--completions"))
		return complete_print(argc > 2 ? argv[2] : "");
	if (!program.only && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		print_overview(stdout);
		return 0;
	}
	return -1;
}

static int run(int argc, char **argv)
{
	const struct command *command;
	int status;

	/* --debug has no place of its own; before the command it may stand too */
	while (argc > 1 && !strcmp(argv[1], "--debug")) {
		print_set_debug(true);
		argv++;
		argc--;
	}
	if (argc > 1) {
		status = run_general(argc, argv);
		if (status >= 0)
			return status;
	}
	if (program.only)
		return run_command(program.only, argc, argv);
	if (argc < 2) {
		fprintf(stderr, "%s: no command was given; see %s --help\n", program.name,
			program.name);
		return EINVAL;
	}
	command = find_command(argv[1]);
	return command ? run_command(command, argc - 1, argv + 1) : unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
	int status;

	streams_prepare();
	signal(SIGPIPE, SIG_IGN); /* EPIPE is an answer, death by signal is not */
	status = run(argc, argv);
	return print_flush(status);
}
