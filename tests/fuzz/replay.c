/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands in for libFuzzer with any compiler: runs the fuzz target over files, to keep what once was found
 * from coming back.
 *
 * usage: fuzz_NAME FILE|DIRECTORY...
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

static unsigned run_file(const char *path)
{
	FILE *in = fopen(path, "rb");
	uint8_t *data, *exact;
	size_t len;

	if (!in) {
		perror(path);
		exit(1);
	}
	data = malloc(4u << 20);
	len = fread(data, 1, 4u << 20, in);
	fclose(in);
	// Not a byte more than the input, so that a sanitizer sees a read past its end.
	exact = malloc(len ? len : 1);
	memcpy(exact, data, len);
	free(data);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	return 1;
}

static unsigned run(const char *path)
{
	unsigned n = 0;
	struct stat st;
	struct dirent *entry;
	DIR *dir;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return run_file(path);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		n += run_file(name);
	}
	if (dir)
		closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++)
		n += run(argv[i]);
	printf("%u inputs\n", n);
	return n == 0;
}
