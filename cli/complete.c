/* complete.c - completions for shells, made from the table of commands
 *
 * A program without commands has one row, whose name is empty.
 *
 * Words come from the table, so they cannot differ from the help.  What takes a
 * FILE completes as a file name, DIR as a directory.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "complete.h"

static bool takes_file(const struct option_spec *o)
{
	return o->argument && (!strcmp(o->argument, "FILE") || !strcmp(o->argument, "PARENT"));
}

static bool takes_directory(const struct option_spec *o)
{
	return o->argument && !strcmp(o->argument, "DIR");
}

/* A text between single quotes of a shell: the quotes in it end and begin again. */
static void put_quoted(const char *text)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
	putchar('\'');
}

static void bash_options(const struct command *c)
{
	printf("\t%s) words=\"--help --debug", *c->name ? c->name : "''");
	for (const struct option_spec *o = c->options; o->name; o++)
		printf(" --%s", o->name);
	printf("\" ;;\n");
}

/* Options whose value is no file name: nothing is offered for it. */
static void bash_values(const struct command *c)
{
	bool any = false;

	for (const struct option_spec *o = c->options; o->name; o++) {
		if (!o->argument || takes_file(o) || takes_directory(o))
			continue;
		printf("%s%s:--%s", any ? "|" : "\t", c->name, o->name);
		if (o->letter)
			printf("|%s:-%c", c->name, o->letter);
		any = true;
	}
	if (any)
		printf(") return ;;\n");
}

static const struct command *nth_command(size_t k)
{
	if (program.only)
		return k ? NULL : program.only;
	return program.commands[k];
}

/* The program's name as part of the name of a shell function. */
static const char *function_name(void)
{
	static char name[64];

	snprintf(name, sizeof(name), "_%s", program.name);
	for (char *p = name; *p; p++)
		if (*p == '-')
			*p = '_';
	return name;
}

static void bash_first_word(void)
{
	printf("\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"--help --version");
	for (size_t k = 0; nth_command(k); k++)
		printf(" %s", nth_command(k)->name);
	printf("\" -- \"$now\"))\n\t\treturn\n\tfi\n");
}

static void print_bash(void)
{
	printf("# completions of %s for bash\n"
	       "%s()\n{\n"
	       "\tlocal now=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal command=%s words=\n"
	       "\tCOMPREPLY=()\n",
	       program.name, function_name(), program.only ? "" : "${COMP_WORDS[1]}");
	if (!program.only)
		bash_first_word();
	printf("\tcase $before in\n"
	       "\t--parent-root|--run-dir|--tls-certs) compopt -o filenames; "
	       "COMPREPLY=($(compgen -d -- \"$now\")); return ;;\n\tesac\n"
	       "\tcase $command:$before in\n");
	for (size_t k = 0; nth_command(k); k++)
		bash_values(nth_command(k));
	printf("\tesac\n\tcase $command in\n");
	for (size_t k = 0; nth_command(k); k++)
		bash_options(nth_command(k));
	printf("\tesac\n"
	       "\tcase $now in\n"
	       "\t-*) COMPREPLY=($(compgen -W \"$words\" -- \"$now\")) ;;\n"
	       "\t*) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$now\")) ;;\n"
	       "\tesac\n}\n"
	       "complete -F %s %s\n",
	       function_name(), program.name);
}

/* In the specifications of zsh's _arguments a colon and brackets have a meaning. */
static void zsh_text(const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else if (strchr(":[]\\", *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
}

static void zsh_option(const struct option_spec *o)
{
	const char *action = takes_file(o) ? "_files" : takes_directory(o) ? "_files -/" : " ";

	if (o->letter)
		printf(" \\\n\t\t\t'(-%c --%s)'{-%c,--%s}'[", o->letter, o->name, o->letter,
		       o->name);
	else
		printf(" \\\n\t\t\t'*--%s[", o->name);
	zsh_text(o->help);
	printf("]");
	if (o->argument)
		printf(":%s:%s", o->argument, action);
	printf("'");
}

static void zsh_arguments(const struct command *c)
{
	printf("_arguments -s");
	for (const struct option_spec *o = c->options; o->name; o++)
		zsh_option(o);
	printf(" \\\n\t\t\t'--debug[say more about errors]' '(-h --help)'{-h,--help}'[help]'"
	       " \\\n\t\t\t'*:file:_files'\n");
}

static void zsh_commands(void)
{
	printf("\tlocal -a names\n\tnames=(");
	for (size_t k = 0; program.commands[k]; k++) {
		printf("\n\t\t'%s:", program.commands[k]->name);
		zsh_text(program.commands[k]->summary);
		printf("'");
	}
	printf("\n\t)\n"
	       "\tif (( CURRENT == 2 )); then\n\t\t_describe command names\n\t\treturn\n\tfi\n"
	       "\tlocal command=$words[2]\n"
	       "\tshift words\n\t(( CURRENT-- ))\n"
	       "\tcase $command in\n");
	for (size_t k = 0; program.commands[k]; k++) {
		printf("\t%s)\n\t\t", program.commands[k]->name);
		zsh_arguments(program.commands[k]);
		printf("\t\t;;\n");
	}
	printf("\tesac\n");
}

static void print_zsh(void)
{
	printf("#compdef %s\n# completions of %s for zsh\n%s()\n{\n", program.name, program.name,
	       function_name());
	if (program.only) {
		printf("\t");
		zsh_arguments(program.only);
	} else {
		zsh_commands();
	}
	printf("}\n%s \"$@\"\n", function_name());
}

static void fish_option(const struct command *c, const struct option_spec *o)
{
	printf("complete -c %s", program.name);
	if (*c->name)
		printf(" -n '__fish_seen_subcommand_from %s'", c->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	printf(" -l %s", o->name);
	if (takes_file(o))
		printf(" -r -F");
	else if (takes_directory(o))
		printf(" -x -a '(__fish_complete_directories)'");
	else if (o->argument)
		printf(" -x");
	printf(" -d ");
	put_quoted(o->help);
	putchar('\n');
}

static void print_fish(void)
{
	printf("# completions of %s for fish\n", program.name);
	for (size_t k = 0; nth_command(k); k++) {
		const struct command *c = nth_command(k);

		if (*c->name) {
			printf("complete -c %s -n __fish_use_subcommand -f -a %s -d ", program.name,
			       c->name);
			put_quoted(c->summary);
			putchar('\n');
		}
		for (const struct option_spec *o = c->options; o->name; o++)
			fish_option(c, o);
	}
	printf("complete -c %s -l debug -d 'say more about errors'\n"
	       "complete -c %s -s h -l help -d 'help'\n",
	       program.name, program.name);
}

int complete_print(const char *shell)
{
	if (!strcmp(shell, "bash"))
		print_bash();
	else if (!strcmp(shell, "zsh"))
		print_zsh();
	else if (!strcmp(shell, "fish"))
		print_fish();
	else {
		fprintf(stderr, "%s: --completions takes bash, zsh or fish\n", program.name);
		return EINVAL;
	}
	return 0;
}
