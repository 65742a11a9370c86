/* flat.c - flat [-r] FILE...: what a chain contains, to stdout
 *
 * The leaf first, each followed by its parent; -r: the last one is a raw disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/flat-reader.h"

#define STEP 2048u

int main(int argc, char **argv)
{
	static uint8_t buf[STEP * 512];
	bool raw = argc > 1 && !strcmp(argv[1], "-r");
	char **names = argv + 1 + raw;
	unsigned depth = (unsigned)(argc - 1 - raw);
	int *fds = calloc(depth + 1, sizeof(*fds));
	struct flat_source *sources = calloc(depth + 1, sizeof(*sources));
	struct flat flat;
	bool ok = fds && sources && depth;

	if (!ok) {
		fprintf(stderr, "usage: flat [-r] LEAF PARENT...\n");
		return 22;
	}
	for (unsigned i = 0; i < depth; i++) {
		fds[i] = open(names[i], O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0) {
			perror(names[i]);
			return 2;
		}
		sources[i] = flat_file(&fds[i], raw && i + 1 == depth);
	}
	ok = flat_open(&flat, sources, depth);
	for (uint64_t s = 0; ok && s < (flat_size(&flat) + 511) / 512; s += STEP) {
		uint64_t left = (flat_size(&flat) + 511) / 512 - s, n = left < STEP ? left : STEP;

		ok = flat_read(&flat, buf, s, n) && fwrite(buf, 512, n, stdout) == n;
	}
	if (!ok)
		fprintf(stderr, "flat: %s: %s\n", names[0], flat.why);
	flat_release(&flat);
	free(sources);
	free(fds);
	return ok && !fflush(stdout) ? 0 : 117;
}
