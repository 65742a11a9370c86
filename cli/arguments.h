/* arguments.h - from the command line to struct arguments, by the command's table
 *
 * What commands use of this room is declared in command.h; this is for main.
 */
#ifndef CLI_ARGUMENTS_H
#define CLI_ARGUMENTS_H

#include "command.h"

/* The outcome of arguments_parse besides 0 and the status of a usage error. */
#define ARGUMENTS_HELP (-1) /* --help was given */

/* Parse argv[1..] (argv[0] is the command's name) for @command.  Fills @args, which
 * borrows from @argv; to be released whatever is returned.  0, ARGUMENTS_HELP, or
 * an exit status after printing why. */
int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *args);
void arguments_release(struct arguments *args);

/* The name among @count @names most like @given by edit distance; NULL when none is near. */
const char *arguments_suggest(const char *given, const char *const *names, size_t count);

#endif
