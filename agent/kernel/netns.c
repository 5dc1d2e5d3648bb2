#include "kernel/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"
#include "kernel/refusal.h"
#include "kernel/root.h"
#include "kernel/thread.h"

#ifndef SO_NETNS_COOKIE		/* include/uapi/asm-generic/socket.h */
#define SO_NETNS_COOKIE 71
#endif

#define MOUNTS_MAX_BYTES (16UL << 20)

static int open_path(const char *path, int *ret_fd, struct err **err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_errno(err, errno, "open %s", path);
	*ret_fd = fd;
	return 0;
}

int netns_open(pid_t pid, int *ret_fd, struct err **err)
{
	char path[64];

	if (pid <= 0)
		return err_set(err, EINVAL, "network namespace of pid %d: no such pid", (int)pid);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return open_path(path, ret_fd, err);
}

int netns_inode(int netns_fd, uint64_t *ret, struct err **err)
{
	struct stat st;

	if (fstat(netns_fd, &st) < 0)
		return err_errno(err, errno, "stat network namespace");
	*ret = st.st_ino;
	return 0;
}

int netns_own_inode(uint64_t *ret, struct err **err)
{
	_cleanup_close_ int fd = -1;
	int r = open_path("/proc/thread-self/ns/net", &fd, err);

	if (r < 0)
		return r;
	return netns_inode(fd, ret, err);
}

struct visit {
	int netns_fd;
	int (*call)(void *data, struct err **err);
	void *data;
};

static int enter_and_call(void *data, struct err **err)
{
	struct visit *v = data;

	if (setns(v->netns_fd, CLONE_NEWNET) < 0)
		return err_errno(err, errno, "enter network namespace (needs CAP_SYS_ADMIN)");
	return v->call(v->data, err);
}

int netns_run(int netns_fd, int (*call)(void *data, struct err **err), void *data,
	struct err **err)
{
	struct visit v = {.netns_fd = netns_fd, .call = call, .data = data};

	return thread_run(enter_and_call, &v, err);
}

static int make_netns(void *data, struct err **err)
{
	int *fd = data;

	if (unshare(CLONE_NEWNET) == 0)
		*fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return *fd < 0 ? kernel_refusal(err, errno, "make a network namespace") : 0;
}

int netns_new(int *ret_fd, struct err **err)
{
	int fd = -1, r = thread_run(make_netns, &fd, err);

	if (r < 0)
		return r;
	*ret_fd = fd;
	return 0;
}

int netns_try(int (*call)(void *data, struct err **err), void *data, struct err **err)
{
	_cleanup_close_ int fd = -1;
	int r = netns_new(&fd, err);

	return r < 0 ? r : netns_run(fd, call, data, err);
}

struct socket_request {
	int family, type, protocol;
	int fd;
};

static int make_socket(void *data, struct err **err)
{
	struct socket_request *q = data;

	q->fd = socket(q->family, q->type | SOCK_CLOEXEC, q->protocol);
	if (q->fd < 0)
		return err_errno(err, errno, "socket(%d, %d, %d)", q->family, q->type,
			q->protocol);
	return 0;
}

int netns_socket(int netns_fd, int family, int type, int protocol, int *ret_fd, struct err **err)
{
	struct socket_request q = {family, type, protocol, -1};
	int r = netns_run(netns_fd, make_socket, &q, err);

	if (r < 0)
		return r;
	*ret_fd = q.fd;
	return 0;
}

int netns_cookie(int netns_fd, uint64_t *ret, struct err **err)
{
	_cleanup_close_ int fd = -1;
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	int r = netns_socket(netns_fd, AF_UNIX, SOCK_DGRAM, 0, &fd, err);

	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0 && errno != ENOPROTOOPT)
		return err_errno(err, errno, "ask for the cookie of a network namespace");
	*ret = cookie;
	return 0;
}

/* Takes fd. */
static bool is_wanted(int fd, uint64_t inode, int *ret_fd)
{
	uint64_t found = 0;

	if (fd < 0)
		return false;
	if (netns_inode(fd, &found, NULL) < 0 || found != inode) {
		close(fd);
		return false;
	}
	*ret_fd = fd;
	return true;
}

/* 1: it is in that namespace; 0: it is not, or is gone; else why that could not be looked at. */
static int is_of_process(pid_t pid, uint64_t inode, int *ret_fd, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int fd = -1, r = netns_open(pid, &fd, &why);

	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
		return err_set(err, r, "%s", err_text(why));
	return r == 0 && is_wanted(fd, inode, ret_fd);
}

/*
 * As that process sees the file system. "... net:[INODE] /run/netns/NAME ...": fields 4 and 5 of proc(5),
 * /proc/PID/mountinfo. Whatever lies at such a path is only opened if it is a regular file, as these are.
 */
static int find_mounted(pid_t pid, uint64_t inode, int *ret_fd, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err *why = NULL;
	char root[48], *rest, *line;
	size_t length;
	int r;

	r = proc_read_file(pid, "mountinfo", MOUNTS_MAX_BYTES, &text, &length, &why);
	if (r < 0)
		return r == -ESRCH || r == -EINVAL ? 0 : err_set(err, r, "%s", err_text(why));
	snprintf(root, sizeof(root), " net:[%ju] ", (uintmax_t)inode);
	for (rest = text; (line = strsep(&rest, "\n"));) {
		char *at = strstr(line, root), *path;
		int fd = -1;

		if (!at)
			continue;
		path = at + strlen(root);
		path[strcspn(path, " ")] = '\0';
		if (root_open_regular(pid, path, &fd, NULL) == 0 && is_wanted(fd, inode, ret_fd))
			return 1;
	}
	return 0;
}

/* Who keeps pods' network namespaces while nobody is in them: the node's first process's mounts, and a
 * runtime's own where it has others. */
static bool keeps_namespaces(const struct proc_stat *p)
{
	static const char *const runtimes[] = {"crio", "containerd", "dockerd"};

	for (size_t i = 0; i < ELEMENTS(runtimes); i++)
		if (strcmp(p->comm, runtimes[i]) == 0)
			return true;
	return p->id.pid == 1 || p->id.pid == getpid();
}

int netns_find(pid_t likely, uint64_t inode, int *ret_fd, struct err **err)
{
	_cleanup_free_ struct proc_stat *all = NULL;
	size_t count = 0;
	int r;

	*ret_fd = -1;
	r = is_of_process(likely, inode, ret_fd, err);
	if (r == 0)
		r = proc_list(&all, &count, err);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = is_of_process(all[i].id.pid, inode, ret_fd, err);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (keeps_namespaces(&all[i]))
			r = find_mounted(all[i].id.pid, inode, ret_fd, err);
	return r < 0 ? r : 0;
}
