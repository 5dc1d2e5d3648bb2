/* Freezing a control group: cgroup.freeze of v2, freezer.state of v1. */
#include "kernel/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"

#define FREEZE_TIMEOUT_NS (2 * NS_PER_S)

static int file_if_there(const char *controller, const char *path, const char *name, char **ret,
	struct err **err)
{
	_cleanup_free_ char *folder = NULL, *file = NULL;
	int r;

	r = cgroup_folder(controller, path, &folder, err);
	if (r < 0)
		return r;
	if (asprintf(&file, "%s/%s", folder, name) < 0) {
		file = NULL;
		return err_errno(err, ENOMEM, "name a control group's file");
	}
	if (access(file, R_OK | W_OK) < 0)
		return err_errno(err, errno, "%s", file);
	*ret = steal_ptr(file);
	return 0;
}

int cgroup_freezer(const char *path, char **ret_file, struct err **err)
{
	if (strcmp(path, "/") == 0)
		return err_set(err, EPERM, "the root control group cannot be frozen");
	if (file_if_there(NULL, path, "cgroup.freeze", ret_file, NULL) == 0 ||
	    file_if_there("freezer", path, "freezer.state", ret_file, NULL) == 0)
		return 0;
	return err_set(err, EOPNOTSUPP,
		"control group %s has neither cgroup.freeze (cgroup v2, Linux 5.2) nor freezer.state "
		"(v1, CONFIG_CGROUP_FREEZER)", path);
}

static bool is_v1(const char *file)
{
	const char *name = strrchr(file, '/');

	return name && strcmp(name, "/freezer.state") == 0;
}

static bool is_freezer(const char *file)
{
	const char *name = strrchr(file, '/');

	return name && (is_v1(file) || strcmp(name, "/cgroup.freeze") == 0);
}

/* The file that tells the state: freezer.state itself, or cgroup.events beside cgroup.freeze. */
static int state_open(const char *file, int *ret_fd, struct err **err)
{
	char path[PATH_MAX];
	const char *name = strrchr(file, '/');
	int fd;

	if (!is_freezer(file))
		return err_set(err, EINVAL, "%s is no freezer's file", file);
	if (is_v1(file))
		snprintf(path, sizeof(path), "%s", file);
	else
		snprintf(path, sizeof(path), "%.*s/cgroup.events", (int)(name - file), file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	*ret_fd = fd;
	return 0;
}

/* 1 frozen, 0 thawed, -EAGAIN on its way, or another errno. */
static int state_read(int fd, bool v1)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (!v1) {
		const char *line = strstr(text, "frozen ");

		return line ? line[7] == '1' : -EOPNOTSUPP;
	}
	if (strncmp(text, "FROZEN", 6) == 0)
		return 1;
	return strncmp(text, "THAWED", 6) == 0 ? 0 : -EAGAIN;
}

static bool is_gone(int e)
{
	return e == -ENOENT || e == -ENODEV;
}

static int freezer_write(const char *file, bool freeze, struct err **err)
{
	const char *text = is_v1(file) ? (freeze ? "FROZEN" : "THAWED") : (freeze ? "1" : "0");
	_cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "open %s", file);
	if (write(fd, text, strlen(text)) < 0)
		return err_errno(err, errno, "write \"%s\" to %s", text, file);
	return 0;
}

int cgroup_freeze(const char *file, bool freeze, struct err **err)
{
	uint64_t deadline = now_ns() + FREEZE_TIMEOUT_NS;
	_cleanup_close_ int fd = -1;
	int r;

	r = state_open(file, &fd, err);
	if (r >= 0)
		r = freezer_write(file, freeze, err);
	while (r >= 0) {
		struct pollfd p = {.fd = fd, .events = POLLPRI};

		r = state_read(fd, is_v1(file));
		if (r == (int)freeze)
			return 0;
		if (r < 0 && r != -EAGAIN)
			r = err_errno(err, r, "read the state of %s", file);
		else if (now_ns() > deadline)
			r = err_set(err, ETIMEDOUT, "%s: not %s after 2 s", file,
				freeze ? "frozen" : "thawed");
		else
			/* kernfs tells of changes in cgroup.events by POLLPRI; v1 tells nothing. */
			r = poll(&p, is_v1(file) ? 0 : 1, 1) < 0 && errno != EINTR ?
				    err_errno(err, errno, "poll %s", file) : 0;
	}
	if (is_gone(r) && !freeze) {
		if (err && *err) {
			err_free(*err);
			*err = NULL;
		}
		return 0;
	}
	return is_gone(r) ? err_wrap(err, ESTALE, "the control group is gone") : r;
}

/* Was freezing asked of this very group? cgroup.events also tells of a frozen parent. */
static int request_read(const char *file)
{
	_cleanup_close_ int fd = open(file, O_RDONLY | O_CLOEXEC);
	char c;

	if (fd < 0)
		return -errno;
	return read(fd, &c, 1) == 1 ? c == '1' : -EIO;
}

int cgroup_is_frozen(const char *file, bool *ret, struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct err *why = NULL;
	int r;

	r = state_open(file, &fd, &why);
	if (r >= 0) {
		r = state_read(fd, is_v1(file));
		if (r == -EAGAIN)	/* v1 FREEZING: it was asked for */
			r = 1;
		if (r == 0 && !is_v1(file))
			r = request_read(file);
		if (r < 0)
			err_errno(&why, r, "read the state of %s", file);
	}
	if (r >= 0 || is_gone(r)) {
		err_free(why);
		*ret = r == 1;
		return 0;
	}
	if (err) {
		err_free(*err);
		*err = why;
	} else {
		err_free(why);
	}
	return r;
}
