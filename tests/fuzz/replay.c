/* replay.c - FILE...: give each file to the target once, without a fuzzer */
#include "fuzz.h"

static void play(const char *name)
{
	FILE *f = fopen(name, "rb");
	uint8_t *data;
	long size;

	if (!f || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0) {
		perror(name);
		exit(1);
	}
	rewind(f);
	data = malloc((size_t)size + !size); /* exact, so that a step over its end is seen */
	if (!data || fread(data, 1, (size_t)size, f) != (size_t)size) {
		perror(name);
		exit(1);
	}
	fclose(f);
	printf("%s\n", name);
	fflush(stdout); /* the last one named is the one that failed */
	LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE...\n", argv[0]);
		return 22;
	}
	for (int i = 1; i < argc; i++)
		play(argv[i]);
	printf("%d inputs\n", argc - 1);
	return 0;
}
