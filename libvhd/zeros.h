/* zeros.h - is it all zero? */
#ifndef VHD_ZEROS_H
#define VHD_ZEROS_H

#include <stdbool.h>
#include <stddef.h>

bool zeros_are(const void *data, size_t length);

#endif
