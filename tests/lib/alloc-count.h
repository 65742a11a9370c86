/* alloc-count.h - how often anything in the process asked for memory
 *
 * The C library's allocator is interposed and counted, for the program and all
 * its libraries.  With a sanitizer, which has its own, nothing is counted.
 */
#ifndef TEST_ALLOC_COUNT_H
#define TEST_ALLOC_COUNT_H

#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALLOC_COUNTED 0
#elif defined(__has_feature)
#define ALLOC_COUNTED (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define ALLOC_COUNTED 1
#endif

/* Calls of malloc, calloc, realloc and their aligned kin so far, all threads. */
uint64_t alloc_count(void);

#endif
