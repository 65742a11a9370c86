/* streams.h - descriptors 0, 1 and 2 as a program wants to find them */
#ifndef CLI_STREAMS_H
#define CLI_STREAMS_H

/* Called first of all.  What is closed is made to fail when used, what does not block is made to. */
void streams_prepare(void);

#endif
