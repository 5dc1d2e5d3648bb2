/*
 * Durable files: temporary file in the same folder, write, fsync, rename, fsync of the folder
 * (rename(2), fsync(2)). After a crash the old content or the new is there, never a part.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>
#include "core/err.h"

/* dir_fd: the folder (or AT_FDCWD). The temporary file is ".NAME.tmp" beside it; one that a crash left
 * is replaced. Two writers of one name at once are the caller's mistake. */
int durable_write(int dir_fd, const char *name, const void *data, size_t length, mode_t mode,
	struct err **err);
/* unlink + fsync of the folder. A missing file is no error. */
int durable_remove(int dir_fd, const char *name, struct err **err);
/* Reads at most max bytes; a longer file is -EFBIG, what is no regular file -EINVAL (a FIFO in an
 * instance's folder must not hang us). The text is NUL-terminated; caller frees. */
int file_read(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_length,
	struct err **err);
/* mkdir -p with mode for what it creates. */
int folder_create(const char *path, mode_t mode, struct err **err);
