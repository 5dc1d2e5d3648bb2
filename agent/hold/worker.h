/*
 * Worker processes of a stress fault: forked from the agent and never exec'd, moved into the
 * instance's control groups, idle until told. They end with the thread that forked them
 * (PR_SET_PDEATHSIG, prctl(2)), so that must be the agent's main one. A worker has no descriptor of
 * the agent's, no handler, and shares nothing with it but its page.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "core/json.h"

#define WORKER_NAME "pgjolt-stress"	/* as /proc/PID/comm has it */
#define WORKERS_MAX 64
#define WORKER_FD   3			/* the one descriptor that a worker may be given */

/* What a worker tells, in memory that both see. */
struct worker_page {
	_Atomic uint32_t state;		/* for worker.c */
	_Atomic uint32_t failed;	/* errno that ended it, 0: none */
	_Atomic uint64_t operations;
	_Atomic uint64_t bytes;
	_Atomic uint64_t errors;
	_Atomic uint64_t cpu_ns;
	_Atomic uint64_t flags;		/* of the job */
};

struct worker_job {
	size_t count;
	int fd;				/* given to each as WORKER_FD; -1: none */
	const char *oom_score_adj;	/* NULL: as the agent's; one that may not be set is let be */
	/* Called in the worker, between fork and _exit: only what signal-safety(7) allows, and no
	 * memory but what it maps itself. When it returns, the worker ends. */
	void (*run)(struct worker_page *page, size_t index, const void *argument);
	const void *argument;		/* as it is when forking */
};

enum worker_end { WORKER_RUNS, WORKER_RETURNED, WORKER_KILLED };

struct workers;

/* Forks them, waits until each is ready, and moves it into every folder of groups (NULL-terminated). */
int workers_new(const struct worker_job *job, char *const *groups, struct workers **ret,
	struct err **err);
/* Lets all begin: one store and one wake-up each. */
void workers_go(struct workers *w);
size_t workers_count(const struct workers *w);
const struct worker_page *workers_page(const struct workers *w, size_t index);
/* How it is; *ret_signal: what killed it. */
enum worker_end workers_look(struct workers *w, size_t index, int *ret_signal);
pid_t workers_pid(const struct workers *w, size_t index);
/* Kills them, and waits for a moment (one in the middle of I/O ends after it). */
void workers_free(struct workers *w);
static inline void workers_freep(struct workers **w)
{
	if (*w)
		workers_free(*w);
}

/* [{"pid", "start_ticks"}] for the journal; caller deletes. */
cJSON *workers_record(const struct workers *w);
/* Waits, bounded, until each of the list has ended: -EBUSY; -EBADMSG for what is no such list. */
int workers_verify(const cJSON *list, struct err **err);
