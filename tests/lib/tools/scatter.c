/* scatter.c - `scatter IMAGE RUN BYTES`: BYTES of data into the disk in runs of
 * RUN bytes, each followed by as large a gap; `scatter IMAGE RUN BYTES SPAN SEED`: at random places
 * of the first SPAN bytes, multiples of RUN; for benchmarks */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvhd/vhd.h"
#include "tests/lib/rng.h"

int main(int argc, char **argv)
{
	struct vhd_open_options options = { .flags = VHD_OPEN_WRITE };
	struct vhd_error err = { 0 };
	struct vhd_chain *chain;
	unsigned long long number[4] = { 0 };
	struct rng rng = { 0 };
	char *data;
	int rc;

	for (int i = 2; i < argc && i < 6; i++)
		number[i - 2] = strtoull(argv[i], NULL, 0);
	if ((argc != 4 && argc != 6) || !number[0] || (argc == 6 && number[2] < number[0])) {
		fprintf(stderr, "usage: scatter IMAGE RUN BYTES [SPAN SEED]\n");
		return 22;
	}
	data = malloc(number[0]);
	if (!data)
		return 1;
	memset(data, 0x5a, number[0]);
	rng.state = number[3];
	rc = vhd_open(argv[1], &options, &chain, &err);
	for (unsigned long long done = 0; !rc && done < number[1]; done += number[0]) {
		unsigned long long at = 2 * done;

		if (number[2])
			at = rng_below(&rng, number[2] / number[0]) * number[0];
		rc = vhd_write(chain, data, number[0], at, &err);
	}
	if (!rc)
		rc = vhd_close(chain, &err);
	if (rc)
		fprintf(stderr, "scatter: %s\n", err.text);
	free(data);
	return rc ? 1 : 0;
}
