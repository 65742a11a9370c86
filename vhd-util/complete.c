/* complete.c - completions for shells, made from the table of commands
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
	printf("\t%s) words=\"--help --debug", c->name);
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

static void print_bash(void)
{
	printf("# completions of vhd-util for bash\n"
	       "_vhd_util()\n{\n"
	       "\tlocal now=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal command=${COMP_WORDS[1]} words=\n"
	       "\tCOMPREPLY=()\n"
	       "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"--help --version");
	for (size_t k = 0; commands[k]; k++)
		printf(" %s", commands[k]->name);
	printf("\" -- \"$now\"))\n\t\treturn\n\tfi\n"
	       "\tcase $before in\n"
	       "\t--parent-root) compopt -o filenames; COMPREPLY=($(compgen -d -- \"$now\")); "
	       "return ;;\n\tesac\n"
	       "\tcase $command:$before in\n");
	for (size_t k = 0; commands[k]; k++)
		bash_values(commands[k]);
	printf("\tesac\n\tcase $command in\n");
	for (size_t k = 0; commands[k]; k++)
		bash_options(commands[k]);
	printf("\tesac\n"
	       "\tcase $now in\n"
	       "\t-*) COMPREPLY=($(compgen -W \"$words\" -- \"$now\")) ;;\n"
	       "\t*) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$now\")) ;;\n"
	       "\tesac\n}\n"
	       "complete -F _vhd_util vhd-util\n");
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

static void print_zsh(void)
{
	printf("#compdef vhd-util\n# completions of vhd-util for zsh\n"
	       "_vhd_util()\n{\n\tlocal -a names\n\tnames=(");
	for (size_t k = 0; commands[k]; k++) {
		printf("\n\t\t'%s:", commands[k]->name);
		zsh_text(commands[k]->summary);
		printf("'");
	}
	printf("\n\t)\n"
	       "\tif (( CURRENT == 2 )); then\n\t\t_describe command names\n\t\treturn\n\tfi\n"
	       "\tlocal command=$words[2]\n"
	       "\tshift words\n\t(( CURRENT-- ))\n"
	       "\tcase $command in\n");
	for (size_t k = 0; commands[k]; k++) {
		printf("\t%s)\n\t\t_arguments -s", commands[k]->name);
		for (const struct option_spec *o = commands[k]->options; o->name; o++)
			zsh_option(o);
		printf(" \\\n\t\t\t'--debug[say more about errors]' '(-h "
		       "--help)'{-h,--help}'[help]'"
		       " \\\n\t\t\t'*:file:_files'\n\t\t;;\n");
	}
	printf("\tesac\n}\n_vhd_util \"$@\"\n");
}

static void fish_option(const struct command *c, const struct option_spec *o)
{
	printf("complete -c vhd-util -n '__fish_seen_subcommand_from %s'", c->name);
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
	printf("# completions of vhd-util for fish\n");
	for (size_t k = 0; commands[k]; k++) {
		printf("complete -c vhd-util -n __fish_use_subcommand -f -a %s -d ",
		       commands[k]->name);
		put_quoted(commands[k]->summary);
		putchar('\n');
		for (const struct option_spec *o = commands[k]->options; o->name; o++)
			fish_option(commands[k], o);
	}
	printf("complete -c vhd-util -l debug -d 'say more about errors'\n"
	       "complete -c vhd-util -s h -l help -d 'help'\n");
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
		fprintf(stderr, "vhd-util: --completions takes bash, zsh or fish\n");
		return EINVAL;
	}
	return 0;
}
