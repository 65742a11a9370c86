/* replay.c - replay LOG DISK [FLUSHES]: apply a log of tapdisk's "log" disk to a raw file, up to the
 * Nth flush or all of it; prints how many records and flushes there were
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvhd/base/endian.h"

#define RECORD 32

int main(int argc, char **argv)
{
	FILE *log = argc > 2 ? fopen(argv[1], "rb") : NULL;
	int disk = argc > 2 ? open(argv[2], O_RDWR) : -1;
	unsigned long most = argc > 3 ? strtoul(argv[3], NULL, 0) : ~0ul, flushes = 0, records = 0;
	unsigned char head[RECORD];

	if (!log || disk < 0) {
		fprintf(stderr, "usage: replay LOG DISK [FLUSHES]\n");
		return 2;
	}
	while (flushes < most && fread(head, 1, RECORD, log) == RECORD) {
		unsigned op = be32_load(head + 8);
		size_t length = (size_t)be64_load(head + 24);
		unsigned char *data = calloc(1, length + 1);
		int bad = memcmp(head, "VHDLOG1\n", 8) != 0 || !data ||
			  (op == 1 && fread(data, 1, length, log) != length) ||
			  ((op == 1 || op == 4) &&
			   pwrite(disk, data, length, (off_t)be64_load(head + 16)) !=
				   (ssize_t)length);

		free(data);
		if (bad) {
			fprintf(stderr, "replay: record %lu is broken\n", records);
			return 1;
		}
		flushes += op == 2;
		records++;
	}
	printf("%lu records, %lu flushes\n", records, flushes);
	return 0;
}
