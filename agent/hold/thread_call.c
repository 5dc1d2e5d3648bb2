#include "hold/thread_call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/cleanup.h"

/* It is about to sleep when it is asked for, so it may be "running" for a moment. */
#define TRIES 50

void thread_calls_init(struct thread_calls *t)
{
	for (size_t i = 0; i < ELEMENTS(t->list); i++)
		t->list[i] = (struct thread_call){.fd = -1};
}

void thread_calls_done(struct thread_calls *t)
{
	for (size_t i = 0; i < ELEMENTS(t->list); i++)
		closep(&t->list[i].fd);
	thread_calls_init(t);
}

static bool open_new(struct thread_call *c, pid_t tid)
{
	char path[64];

	closep(&c->fd);
	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	c->fd = open(path, O_RDONLY | O_CLOEXEC);
	c->tid = tid;
	return c->fd >= 0;
}

static enum disk_operation operation_of(long call)
{
	switch (call) {
	case SYS_read:
	case SYS_pread64:
	case SYS_readv:
	case SYS_preadv:
	case SYS_preadv2:
		return DISK_READ;
	case SYS_write:
	case SYS_pwrite64:
	case SYS_writev:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_fallocate:
		return DISK_WRITE;
	default:
		return DISK_OPERATION_MAX;
	}
}

enum disk_operation thread_calls_get(struct thread_calls *t, pid_t tid)
{
	struct thread_call *c = &t->list[(unsigned)tid % THREAD_CALLS_KNOWN];
	bool fresh = c->fd < 0 || c->tid != tid;
	char text[32];

	if (fresh && !open_new(c, tid))
		return DISK_OPERATION_MAX;
	for (int i = 0; i < TRIES; i++) {
		ssize_t n = pread(c->fd, text, sizeof(text) - 1, 0);

		/* The one that it was opened for is gone: another has its number. */
		if (n <= 0 && !fresh && open_new(c, tid)) {
			fresh = true;
			continue;
		}
		if (n <= 0)
			break;
		text[n] = '\0';
		if (text[0] != 'r')
			return operation_of(strtol(text, NULL, 10));
	}
	return DISK_OPERATION_MAX;
}
