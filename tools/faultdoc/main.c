/* Writes docs/faults/NAME.md for every fault of the catalogue into a folder, or with --check says
 * which pages there differ from it. tools/docs runs it, and so does a test. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "core/catalogue.h"
#include "core/durable.h"

#define PAGE_MAX (1UL << 20)

/* 0: as it should be; 1: differs or is missing. */
static int page_check(const char *path, const char *page)
{
	_cleanup_free_ char *there = NULL;

	if (file_read(AT_FDCWD, path, PAGE_MAX, &there, NULL, NULL) == 0 && strcmp(there, page) == 0)
		return 0;
	fprintf(stderr, "%s is stale: run tools/docs\n", path);
	return 1;
}

static int page_write(const char *path, const char *page)
{
	_cleanup_err_ struct err *err = NULL;

	if (durable_write(AT_FDCWD, path, page, strlen(page), 0644, &err) == 0)
		return 0;
	fprintf(stderr, "%s\n", err_text(err));
	return 1;
}

int main(int argc, char **argv)
{
	bool check = argc == 3 && strcmp(argv[1], "--check") == 0;
	int failed = 0;

	if (argc != 2 + check) {
		fprintf(stderr, "usage: faultdoc [--check] FOLDER\n");
		return 2;
	}
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		_cleanup_free_ char *page = catalogue_markdown(*f);
		_cleanup_free_ char *path = NULL;

		if (!page || asprintf(&path, "%s/%s.md", argv[argc - 1], (*f)->name) < 0) {
			fprintf(stderr, "out of memory\n");
			return 1;
		}
		failed |= check ? page_check(path, page) : page_write(path, page);
	}
	return failed;
}
