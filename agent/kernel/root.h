/* Files as a process sees them: openat2(2) inside its root, so that no link leads out of it. */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include "core/err.h"

/* path: absolute, as the process sees it. O_CLOEXEC is added. -ESRCH when the process is gone. */
int root_open(pid_t pid, const char *path, int flags, int *ret_fd, struct err **err);
/* For reading; -EINVAL for what is no regular file: nothing else is ever opened. */
int root_open_regular(pid_t pid, const char *path, int *ret_fd, struct err **err);
/* The text of a regular file, at most max bytes (-EFBIG), NUL-terminated; -EINVAL for what is no
 * regular file or holds a NUL. ret_length may be NULL. Caller frees. */
int root_read(pid_t pid, const char *path, size_t max, char **ret, size_t *ret_length,
	struct err **err);
/* The same of one that is open, from its beginning; path: for words. */
int root_read_fd(int fd, const char *path, size_t max, char **ret, size_t *ret_length,
	struct err **err);
/* What a descriptor is the name of, as the process sees it; caller frees. */
int root_path_of(pid_t pid, int fd, char **ret, struct err **err);
