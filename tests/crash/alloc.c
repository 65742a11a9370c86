/* alloc.c - allocations that can fail and are counted */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sys.h"

#define WRAP(type, name, ...)            \
	type __real_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__); \
	type __wrap_##name(__VA_ARGS__)

static atomic_long live, countdown = LONG_MAX;
static atomic_bool failed, for_ever;

void alloc_fail(long nth, bool ever)
{
	atomic_store(&failed, false);
	atomic_store(&for_ever, ever);
	atomic_store(&countdown, nth);
}

bool alloc_fail_end(void)
{
	atomic_store(&countdown, LONG_MAX);
	return atomic_load(&failed);
}

long alloc_live(void)
{
	return atomic_load(&live);
}

static bool fails(int code)
{
	long n;

	if (atomic_load(&countdown) == LONG_MAX)
		return false;
	n = atomic_fetch_sub(&countdown, 1);
	if (n > 0 || (n < 0 && !atomic_load(&for_ever)))
		return false;
	atomic_store(&failed, true);
	errno = code;
	return true;
}

static void *count(void *p)
{
	if (p)
		atomic_fetch_add(&live, 1);
	return p;
}

WRAP(void *, malloc, size_t size)
{
	return fails(ENOMEM) ? NULL : count(__real_malloc(size));
}

WRAP(void *, calloc, size_t n, size_t size)
{
	return fails(ENOMEM) ? NULL : count(__real_calloc(n, size));
}

WRAP(void *, realloc, void *p, size_t size)
{
	if (fails(ENOMEM))
		return NULL;
	return p ? __real_realloc(p, size) : count(__real_realloc(p, size));
}

WRAP(void *, aligned_alloc, size_t alignment, size_t size)
{
	return fails(ENOMEM) ? NULL : count(__real_aligned_alloc(alignment, size));
}

WRAP(int, posix_memalign, void **out, size_t alignment, size_t size)
{
	int rc = fails(ENOMEM) ? ENOMEM : __real_posix_memalign(out, alignment, size);

	if (!rc)
		count(*out);
	return rc;
}

WRAP(char *, strdup, const char *s)
{
	return fails(ENOMEM) ? NULL : count(__real_strdup(s));
}

WRAP(char *, strndup, const char *s, size_t n)
{
	return fails(ENOMEM) ? NULL : count(__real_strndup(s, n));
}

WRAP(char *, realpath, const char *path, char *out)
{
	char *p;

	if (out)
		return __real_realpath(path, out);
	p = fails(ENOMEM) ? NULL : __real_realpath(path, NULL);
	return count(p);
}

static int print(char **out, const char *format, va_list args)
{
	int n = fails(ENOMEM) ? -1 : vasprintf(out, format, args);

	if (n >= 0)
		count(*out);
	return n;
}

int __wrap_asprintf(char **out, const char *format, ...);
int __wrap_asprintf(char **out, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = print(out, format, args);
	va_end(args);
	return n;
}

int __wrap___asprintf_chk(char **out, int flag, const char *format, ...);
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, format);
	n = print(out, format, args);
	va_end(args);
	return n;
}

WRAP(void, free, void *p)
{
	if (p)
		atomic_fetch_sub(&live, 1);
	__real_free(p);
}

WRAP(int, pthread_create, pthread_t *out, const pthread_attr_t *attr, void *(*fn)(void *),
     void *arg)
{
	return fails(EAGAIN) ? EAGAIN : __real_pthread_create(out, attr, fn, arg);
}
