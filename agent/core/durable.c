#include "core/durable.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "core/cleanup.h"

#define PROC_FD_MAX 32

/* The folder of dir_fd/name, open, and the last part of name. */
static int open_folder(int dir_fd, const char *name, int *ret_fd, const char **ret_last,
	struct err **err)
{
	_cleanup_free_ char *folder = NULL;
	const char *slash = strrchr(name, '/');
	const char *last = slash ? slash + 1 : name;
	int fd;

	if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return err_set(err, -EINVAL, "\"%s\" is no file name", name);
	if (!slash)
		folder = strdup(".");
	else
		folder = strndup(name, slash == name ? 1 : (size_t)(slash - name));
	if (!folder)
		return err_errno(err, -ENOMEM, "%s", name);
	fd = openat(dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open folder %s", folder);
	*ret_fd = fd;
	*ret_last = last;
	return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Writes dir/temporary and makes it last. The words name the step. */
static int write_temporary(int dir, const char *temporary, const void *data, size_t length,
	mode_t mode, struct err **err)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (unlinkat(dir, temporary, 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove %s", temporary);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_errno(err, errno, "create %s", temporary);
	r = write_all(fd, data, length);
	if (r < 0)
		return err_errno(err, r, "write %s", temporary);
	if (fsync(fd) < 0)
		return err_errno(err, errno, "fsync %s", temporary);
	if (close(steal_fd(&fd)) < 0)
		return err_errno(err, errno, "close %s", temporary);
	return 0;
}

int durable_write(int dir_fd, const char *name, const void *data, size_t length, mode_t mode,
	struct err **err)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_close_ int dir = -1;
	const char *last;
	int r;

	r = open_folder(dir_fd, name, &dir, &last, err);
	if (r < 0)
		return r;
	if (asprintf(&temporary, ".%s.tmp", last) < 0) {
		temporary = NULL;
		return err_errno(err, -ENOMEM, "%s", name);
	}
	r = write_temporary(dir, temporary, data, length, mode, err);
	if (r == 0 && renameat(dir, temporary, dir, last) < 0)
		r = err_errno(err, errno, "rename %s to %s", temporary, last);
	if (r < 0) {
		unlinkat(dir, temporary, 0);
		return r;
	}
	if (fsync(dir) < 0)
		return err_errno(err, errno, "fsync the folder of %s", name);
	return 0;
}

int durable_remove(int dir_fd, const char *name, struct err **err)
{
	_cleanup_close_ int dir = -1;
	const char *last;
	int r;

	r = open_folder(dir_fd, name, &dir, &last, NULL);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(err, r, "open the folder of %s", name);
	if (unlinkat(dir, last, 0) < 0 && errno != ENOENT)
		return err_errno(err, errno, "remove %s", name);
	/* Also when it was missing: an earlier removal may not be on disk yet. */
	if (fsync(dir) < 0)
		return err_errno(err, errno, "fsync the folder of %s", name);
	return 0;
}

/* Reads until end of file or one byte beyond max. */
static int read_all(int fd, size_t max, char **ret, size_t *ret_length)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0, room = 0;

	while (true) {
		ssize_t n;

		if (length == room) {
			char *grown;

			room = room ? room * 2 : 4096;
			if (room > max + 1)
				room = max + 1;
			grown = realloc(text, room + 1);
			if (!grown)
				return -ENOMEM;
			text = grown;
		}
		n = read(fd, text + length, room - length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		length += (size_t)n;
		if (length > max)
			return -EFBIG;
	}
	text[length] = '\0';
	*ret = steal_ptr(text);
	*ret_length = length;
	return 0;
}

int file_read(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_length,
	struct err **err)
{
	_cleanup_close_ int found = -1, fd = -1;
	char link[PROC_FD_MAX];
	struct stat st;
	size_t length = 0;
	int r;

	if (max >= SIZE_MAX - 2)
		return err_set(err, -EINVAL, "read %s: no bound", name);
	/* To open a device can do something; a FIFO is waited for. */
	found = openat(dir_fd, name, O_PATH | O_CLOEXEC);
	if (found < 0)
		return err_errno(err, errno, "open %s", name);
	if (fstat(found, &st) < 0)
		return err_errno(err, errno, "stat %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			"%s is no regular file", name);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
	fd = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", name);
	r = read_all(fd, max, ret, &length);
	if (r == -EFBIG)
		return err_set(err, r, "%s is longer than %zu bytes", name, max);
	if (r < 0)
		return err_errno(err, r, "read %s", name);
	if (ret_length)
		*ret_length = length;
	return 0;
}

static int create_one(const char *path, mode_t mode, struct err **err)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return err_errno(err, errno, "create folder %s", path);
	if (stat(path, &st) < 0)
		return err_errno(err, errno, "stat %s", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, -ENOTDIR, "%s is there and is no folder", path);
	return 0;
}

int folder_create(const char *path, mode_t mode, struct err **err)
{
	_cleanup_free_ char *copy = strdup(path);
	int r;

	if (!copy)
		return err_errno(err, -ENOMEM, "%s", path);
	if (!*copy)
		return err_set(err, -EINVAL, "the path of a folder is empty");
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		r = create_one(copy, mode, err);
		if (r < 0)
			return r;
		*p = '/';
	}
	return create_one(copy, mode, err);
}
