/* zeros.c - all zero exactly if the first bytes are, and every byte equals the
 * one a little before it: a comparison that the C library does at full speed */
#include "zeros.h"

#include <string.h>

#include "base/number.h"

#define HEAD 16

bool zeros_are(const void *data, size_t length)
{
	const unsigned char *p = data;
	size_t head = number_min(length, HEAD);

	for (size_t i = 0; i < head; i++)
		if (p[i])
			return false;
	return length <= HEAD || !memcmp(p, p + HEAD, length - HEAD);
}
