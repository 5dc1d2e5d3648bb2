#include "kernel/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "core/cleanup.h"

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
	struct err **err;
	int result;
};

static void *visit_thread(void *arg)
{
	struct visit *v = arg;

	if (setns(v->netns_fd, CLONE_NEWNET) < 0)
		v->result = err_errno(v->err, errno,
			"enter network namespace (needs CAP_SYS_ADMIN)");
	else
		v->result = v->call(v->data, v->err);
	return NULL;
}

int netns_run(int netns_fd, int (*call)(void *data, struct err **err), void *data,
	struct err **err)
{
	struct visit v = {
		.netns_fd = netns_fd,
		.call = call,
		.data = data,
		.err = err,
	};
	sigset_t all, saved;
	pthread_t thread;
	int r;

	/* A thread inherits the mask: no signal of the agent is ever handled in a foreign place. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = pthread_create(&thread, NULL, visit_thread, &v);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (r != 0)
		return err_errno(err, r, "start a thread for a network namespace");
	pthread_join(thread, NULL);
	return v.result;
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
