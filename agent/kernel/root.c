#include "kernel/root.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

int root_open(pid_t pid, const char *path, int flags, int *ret_fd, struct err **err)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int root = -1;
	char link[64];
	int fd;

	snprintf(link, sizeof(link), "/proc/%d/root", (int)pid);
	root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "open %s", link);
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd < 0)
		return err_errno(err, errno, "open %s in the root of process %d", path, (int)pid);
	*ret_fd = fd;
	return 0;
}

int root_open_regular(pid_t pid, const char *path, int *ret_fd, struct err **err)
{
	_cleanup_close_ int found = -1, fd = -1;
	struct stat st;
	char link[64];
	int r;

	/* To open a device can do something. */
	r = root_open(pid, path, O_PATH, &found, err);
	if (r < 0)
		return r;
	if (fstat(found, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is no regular file", path);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
	fd = open(link, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int root_read_fd(int fd, const char *path, size_t max, char **ret, size_t *ret_length,
	struct err **err)
{
	_cleanup_free_ char *text = malloc(max + 2);
	size_t length = 0;
	ssize_t n = 1;

	if (!text)
		return err_errno(err, ENOMEM, "read %s", path);
	while (length <= max && (n = pread(fd, text + length, max + 1 - length, (off_t)length)) > 0)
		length += (size_t)n;
	if (n < 0)
		return err_errno(err, errno, "read %s", path);
	if (length > max)
		return err_set(err, EFBIG, "%s has more than %zu bytes", path, max);
	text[length] = '\0';
	if (memchr(text, '\0', length))
		return err_set(err, EINVAL, "%s is no text", path);
	*ret = steal_ptr(text);
	if (ret_length)
		*ret_length = length;
	return 0;
}

int root_read(pid_t pid, const char *path, size_t max, char **ret, size_t *ret_length,
	struct err **err)
{
	_cleanup_close_ int fd = -1;
	int r = root_open_regular(pid, path, &fd, err);

	return r < 0 ? r : root_read_fd(fd, path, max, ret, ret_length, err);
}

int root_path_of(pid_t pid, int fd, char **ret, struct err **err)
{
	_cleanup_free_ char *root = NULL;
	char link[64], target[PATH_MAX];
	const char *path = target;
	ssize_t n;
	size_t length;
	int r;

	r = proc_read_link(pid, "root", &root, err);
	if (r < 0)
		return r;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, target, sizeof(target) - 1);
	if (n <= 0)
		return err_errno(err, n < 0 ? errno : EIO, "read %s", link);
	target[n] = '\0';
	length = strlen(root);
	if (length > 1 && strncmp(path, root, length) == 0 && path[length] == '/')
		path += length;
	*ret = strdup(path);
	return *ret ? 0 : err_errno(err, ENOMEM, "name a file");
}
