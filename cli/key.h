/* key.h - keys of encrypted images on command lines
 *
 * A key comes from a file or from standard input, never from the command line, which others can
 * see.  A process that has one leaves no core dump and cannot be traced by others of its user.
 */
#ifndef CLI_KEY_H
#define CLI_KEY_H

#include "command.h"

/* The key in @file, or on standard input if it is "-".  0, or an exit status after
 * printing why not. */
int key_load(const char *file, struct vhd_key **out);
/* The same for the file that option @name gives; *out is NULL if there is no such option, or it was
 * not given.  That of "key-file" is in args->key already. */
int key_option(const struct arguments *args, const char *name, struct vhd_key **out);

/* The key on standard input in a descriptor that can be handed to another process, which looks
 * whether it is one: a file in memory.  0 and *out, or an exit status after printing why not. */
int key_hand_over(int *out);

/* For CLEANUP(). */
void key_drop(struct vhd_key **key);

#endif
