/* What the two halves of a hold share: its thread (hold/ptrace_hold.c), and how it seizes. All of it
 * under the hold's lock, in the tracer's thread. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include "hold/ptrace_hold.h"
#include "hold/tracees.h"

enum request {
	REQUEST_NONE,
	REQUEST_SEIZE,
	REQUEST_STOP,
	REQUEST_PAUSE,
	REQUEST_RESUME,
	REQUEST_CALL,
	REQUEST_QUIT,
};

struct ptrace_hold {
	struct ptrace_hold *next;	/* of this process */
	char owner[PTRACE_OWNER_MAX];
	pthread_t thread;
	pthread_mutex_t lock;	/* of all below */
	pthread_cond_t asked, changed;
	pid_t tid;
	struct ptrace_hooks hooks;
	bool frozen;
	bool paused;		/* frozen, until ptrace_hold_resume() */
	struct tracees all;

	enum request request;
	const struct proc_id *ids;
	size_t n_ids, n_new;
	int (*call)(void *data);
	void *call_data;
	int result;
	struct err *err;

	atomic_uint_least64_t events;
};

static inline long ptrace_ask(int request, pid_t tid, unsigned long data)
{
	return ptrace(request, tid, NULL, (void *)data);
}

/* A child or thread that the kernel seized for us as it was born; NULL: it is gone, or there is no memory. */
struct tracee *ptrace_adopt(struct ptrace_hold *h, pid_t tid);
/* Seizes h->ids; what there is of them in h->n_new, the words of a failure in h->err. */
int ptrace_seize_all(struct ptrace_hold *h);
