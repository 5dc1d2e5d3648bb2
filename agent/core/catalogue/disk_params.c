#include "core/catalogue/disk_params.h"

#include <string.h>
#include "core/cleanup.h"

static const char *const operation_words[DISK_OPERATION_MAX] = {
	[DISK_READ] = "read",
	[DISK_WRITE] = "write",
	[DISK_FSYNC] = "fsync",
	[DISK_FDATASYNC] = "fdatasync",
	[DISK_OPEN] = "open",
};
DEFINE_STRING_TABLE(disk_operation, enum disk_operation, operation_words)

static const char *const class_words[DISK_CLASS_MAX] = {
	[DISK_DATA] = "data",
	[DISK_WAL] = "wal",
	[DISK_TEMP] = "temp",
	[DISK_TABLESPACE] = "tablespace",
};
DEFINE_STRING_TABLE(disk_class, enum disk_class, class_words)

const char *const disk_mechanism_choices[] = {"auto", "file", "syscall", NULL};

unsigned disk_operations(const struct params *p)
{
	char *const *texts = params_texts(p, "operations");
	unsigned bits = 0;
	enum disk_operation o;

	for (size_t i = 0; texts && texts[i]; i++)
		if (disk_operation_from_string(texts[i], &o) == 0)
			bits |= 1U << o;
	return bits;
}

static int check_operations(const struct params *p, struct err **err)
{
	char *const *texts = params_texts(p, "operations");
	enum disk_operation o;

	if (!texts || !texts[0])
		return err_set(err, -EINVAL, "operations: at least one is needed");
	for (size_t i = 0; texts[i]; i++)
		if (disk_operation_from_string(texts[i], &o) < 0)
			return err_set(err, -EINVAL,
				"operations: \"%.32s\" is none of read, write, fsync, fdatasync, open",
				texts[i]);
	if (params_number(p, "mechanism") == DISK_FILE_GATE &&
	    (disk_operations(p) & (1U << DISK_FSYNC | 1U << DISK_FDATASYNC)))
		return err_set(err, -EINVAL,
			"mechanism: file knows read, write and open only; name them in operations");
	return 0;
}

static int check_paths(const struct params *p, struct err **err)
{
	char *const *texts = params_texts(p, "paths");
	enum disk_class c;

	for (size_t i = 0; texts && texts[i]; i++) {
		if (disk_class_from_string(texts[i], &c) == 0)
			continue;
		if (!texts[i][0] || texts[i][0] == '/' || strstr(texts[i], "..") ||
		    !strpbrk(texts[i], "/*?[._"))
			return err_set(err, -EINVAL,
				"paths: \"%.64s\" is neither data, wal, temp, tablespace nor a glob of a "
				"path below PGDATA such as base/* or PG_VERSION", texts[i]);
	}
	return 0;
}

int disk_params_check(const struct params *p, struct err **err)
{
	int r;

	r = check_operations(p, err);
	return r < 0 ? r : check_paths(p, err);
}
