/* main.c - vhd-util COMMAND [OPTIONS]: find the command, run it, answer for stdout
 *
 * Results go to stdout, everything else to stderr.  A result that could not
 * be written (closed pipe, full disk) is an error like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "complete.h"
#include "print.h"

/* A descriptor 0, 1 or 2 that is closed would be given to the next image opened, and
 * messages would be written into it. */
static void keep_standard_descriptors(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			/* the wrong way round, so that using it fails */
			(void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

static const struct command *find_command(const char *name)
{
	for (size_t k = 0; commands[k]; k++)
		if (!strcmp(commands[k]->name, name))
			return commands[k];
	return NULL;
}

static void print_overview(FILE *to)
{
	fprintf(to, "usage: vhd-util COMMAND [OPTIONS]\n\ncommands:\n");
	for (size_t k = 0; commands[k]; k++)
		fprintf(to, "  %-10s %s\n", commands[k]->name, commands[k]->summary);
	fprintf(to, "\n'vhd-util COMMAND --help' tells about one of them; --version prints the "
		    "version.\n");
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

	printf("usage: vhd-util %s [OPTIONS] %s\n\n%s\n\noptions:\n", command->name,
	       command->operands, command->summary);
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

	while (commands[count] && count < sizeof(names) / sizeof(names[0])) {
		names[count] = commands[count]->name;
		count++;
	}
	near = arguments_suggest(name, names, count);
	if (near)
		fprintf(stderr, "vhd-util: unknown command '%s'; did you mean '%s'?\n", name, near);
	else
		fprintf(stderr, "vhd-util: unknown command '%s'; see vhd-util --help\n", name);
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

static int run(int argc, char **argv)
{
	const struct command *command;

	/* --debug has no place of its own; before the command it may stand too */
	while (argc > 1 && !strcmp(argv[1], "--debug")) {
		print_set_debug(true);
		argv++;
		argc--;
	}
	if (argc < 2) {
		fprintf(stderr, "vhd-util: no command was given; see vhd-util --help\n");
		return EINVAL;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		print_overview(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("vhd-util %s\n", vhd_version());
		return 0;
	}
	if (!strcmp(argv[1], "--completions"))
		return complete_print(argc > 2 ? argv[2] : "");
	command = find_command(argv[1]);
	return command ? run_command(command, argc - 1, argv + 1) : unknown_command(argv[1]);
}

int main(int argc, char **argv)
{
	int status;

	keep_standard_descriptors();
	signal(SIGPIPE, SIG_IGN); /* EPIPE is an answer, death by signal is not */
	status = run(argc, argv);
	return print_flush(status);
}
