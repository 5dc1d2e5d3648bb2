/*
 * Holding processes still by ptrace (ptrace(2), PTRACE_SEIZE): held, since the kernel detaches every
 * tracee when its tracer ends, however it ends, and lets it run on.
 *
 * Only the thread that seized may make ptrace requests: a thread of its own, which never waits for
 * anything but its tracees and its owner. Until ptrace_hold_stop() they all run, and signals and
 * forks cost a stop of some microseconds; children are seized as they are born (leave_children). A tracee is kept
 * only in PTRACE_EVENT_STOP, never in a signal's delivery, so that no signal is lost with the tracer.
 *
 * The process must leave SIGCHLD at its default and must not wait for "any child" in another way than
 * by __WNOTHREAD. SIGRTMIN+1 is taken: it wakes tracers from waitid().
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "kernel/proc.h"

/* Wakes a tracer from waitid(): its timers may send it too (SIGEV_THREAD_ID, ptrace_hold_tracer()). */
#define PTRACE_HOLD_WAKE (SIGRTMIN + 1)

struct ptrace_hold;

enum ptrace_signal {
	PTRACE_SIGNAL_NOT_MINE,	/* passed on as if there were no hook */
	PTRACE_SIGNAL_DONE,	/* the hook has let the thread go on */
	PTRACE_SIGNAL_KEPT,	/* the hook lets it go on later; dies the tracer, the signal is lost */
};

#define PTRACE_OWNER_MAX 128	/* with its NUL */

/* Called in the tracer's thread, the only one that may make ptrace requests. */
struct ptrace_hooks {
	void *data;
	/* For the words of who wants the same process: "proc-freeze of experiment x"; copied. NULL: none. */
	const char *owner;
	/* Children that are born are not seized; threads are. */
	bool leave_children;
	/* A thread is about to receive a signal (signal-delivery-stop of ptrace(2)). */
	enum ptrace_signal (*signal)(void *data, pid_t tid, int signal);
	/* A thread has ended. */
	void (*gone)(void *data, pid_t tid);
	/* After each wake-up: an event, PTRACE_HOLD_WAKE, a request. */
	void (*woken)(void *data);
};

/* A process that is held, or will be. */
struct ptrace_held {
	struct proc_id id;
	unsigned threads;
	unsigned stopped;	/* of the threads; all of them: it stands still */
	pid_t running;		/* a thread that has not stopped yet, else 0 */
};

/* Starts the thread; nothing is traced yet. */
int ptrace_hold_new(struct ptrace_hold **ret, struct err **err);
/* The same with hooks (copied); their data must outlive it. */
int ptrace_hold_new_hooked(const struct ptrace_hooks *hooks, struct ptrace_hold **ret,
	struct err **err);

/*
 * Seizes every thread of these processes; those that it has, or that are gone, are passed over.
 * *ret_new: how many processes are new. After ptrace_hold_stop() new ones are stopped too.
 * -EBUSY with pid and tracer where another one traces it; -EPERM. The ones before it stay seized.
 */
int ptrace_hold_seize(struct ptrace_hold *h, const struct proc_id *ids, size_t count,
	size_t *ret_new, struct err **err);

/* Stops everything and waits for it at most timeout_ns; *ret_running: processes with a thread that
 * still runs (in an uninterruptible wait of the kernel: it stops at its way out). */
int ptrace_hold_stop(struct ptrace_hold *h, uint64_t timeout_ns, size_t *ret_running);

/* Stops everything for a moment, and lets it go on as it was. In between no request but ptrace_hold_call().
 * What ptrace_hold_stop() has stopped stands on. Waits as that does; what a hook keeps never counts as stopped,
 * though it stands. */
void ptrace_hold_pause(struct ptrace_hold *h, uint64_t timeout_ns);
void ptrace_hold_resume(struct ptrace_hold *h);

/* Processes there are now, by pid; caller frees. */
int ptrace_hold_list(struct ptrace_hold *h, struct ptrace_held **ret, size_t *ret_count,
	struct err **err);

/* Runs a function in the tracer's thread, for what the kernel grants to a tracer alone; it must be short
 * and must not call any of these. What it returned. */
int ptrace_hold_call(struct ptrace_hold *h, int (*call)(void *data), void *data);

/* Stops that were handled since the beginning: signals passed on, forks, group stops. */
uint64_t ptrace_hold_events(const struct ptrace_hold *h);

/* The tracer's thread id: what TracerPid shows. */
pid_t ptrace_hold_tracer(const struct ptrace_hold *h);

/* The hold of this process that has that tracer: the kernel lets no second one trace a process, but what
 * only a tracer may do can be done in that one's thread. NULL: none. Control thread only. */
struct ptrace_hold *ptrace_hold_find(pid_t tracer);

/* -EBUSY: who traces it, by the owner's words if it is a hold of this process. */
int ptrace_refuse_traced(pid_t pid, const char *comm, pid_t tracer, struct err **err);

/* Ends the thread, and so the kernel lets everything go. Takes NULL. */
void ptrace_hold_free(struct ptrace_hold *h);
DEFINE_CLEANUP(struct ptrace_hold, ptrace_hold_free)
