/* scatter.c - `scatter IMAGE RUN BYTES`: BYTES of data into the disk in runs of
 * RUN bytes, each followed by as large a gap; for benchmarks */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/vhd.h"

int main(int argc, char **argv)
{
	struct vhd_open_options options = { .flags = VHD_OPEN_WRITE };
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	size_t run = argc == 4 ? strtoull(argv[2], NULL, 0) : 0;
	unsigned long long bytes = argc == 4 ? strtoull(argv[3], NULL, 0) : 0;
	char *data = run ? malloc(run) : NULL;
	int rc;

	if (!data) {
		fprintf(stderr, "usage: scatter IMAGE RUN BYTES\n");
		return 22;
	}
	memset(data, 0x5a, run);
	rc = vhd_open(argv[1], &options, &chain, &err);
	for (unsigned long long at = 0; !rc && at < 2 * bytes; at += 2 * run)
		rc = vhd_write(chain, data, run, at, &err);
	if (!rc)
		rc = vhd_close(chain, &err);
	if (rc)
		fprintf(stderr, "scatter: %s\n", err.text);
	free(data);
	return rc ? 1 : 0;
}
