/* complete.h - completions for shells, made from the table of commands */
#ifndef CLI_COMPLETE_H
#define CLI_COMPLETE_H

/* Print the completion script for @shell: "bash", "zsh" or "fish".  An exit status. */
int complete_print(const char *shell);

#endif
