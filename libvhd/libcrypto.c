/* libcrypto.c - see libcrypto.h */
#include "libcrypto.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/opensslv.h>
#include <pthread.h>
#include <stdbool.h>

/* Of the headers we were built with: another major version has other functions. */
#define TEXT_OF(x) #x
#define TEXT(x)	   TEXT_OF(x)
#define NAME	   "libcrypto.so." TEXT(OPENSSL_SHLIB_VERSION)

static struct libcrypto functions;
static bool loaded;

static void load(void)
{
	void *library = dlopen(NAME, RTLD_NOW | RTLD_LOCAL);

	if (!library)
		return;
	loaded = true;
#define X(name)                                                                    \
	functions.name = (__typeof__(functions.name))dlsym(library, "EVP_" #name); \
	loaded &= functions.name != NULL;
	LIBCRYPTO_FUNCTIONS(X)
#undef X
}

const struct libcrypto *libcrypto(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	if (loaded)
		return &functions;
	errno = ELIBACC;
	return NULL;
}
