/* Without libFuzzer: each file of some folders goes through the target once. exit 1: there is none. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/cleanup.h"
#include "core/durable.h"
#include "fuzz.h"

#define INPUT_MAX (1UL << 20)

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int each_of(const char *folder, unsigned *count)
{
	_cleanup_(closedirp) DIR *dir = opendir(folder);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *text = NULL;
		size_t length;

		if (entry->d_name[0] == '.')
			continue;
		if (file_read(dirfd(dir), entry->d_name, INPUT_MAX, &text, &length, NULL) < 0)
			return -1;
		LLVMFuzzerTestOneInput((const uint8_t *)text, length);
		++*count;
	}
	return dir ? 0 : -1;
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		if (each_of(argv[i], &count) < 0) {
			fprintf(stderr, "cannot read %s\n", argv[i]);
			return 2;
		}
	}
	printf("%u inputs\n", count);
	return count ? 0 : 1;
}
