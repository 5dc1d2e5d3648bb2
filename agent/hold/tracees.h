/* The threads that a tracer has (hold/ptrace_hold.c), by thread id. No locking. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "core/err.h"
#include "hold/ptrace_hold.h"
#include "kernel/proc.h"

enum tracee_state {
	TRACEE_RUNNING,
	TRACEE_LISTENING,	/* in a group stop of its own (SIGSTOP), as it would be untraced */
	TRACEE_STOPPED,		/* ours */
	TRACEE_LEAVING,		/* not the process that was meant: detached at its next stop */
};

struct tracee {
	pid_t tid;
	struct proc_id process;
	enum tracee_state state;
	bool group_stop;	/* its last stop was one of its own group's */
};

struct tracees {
	struct tracee *list;	/* sorted by tid */
	size_t count, room;
};

/* NULL if there is none. The pointer is good until the next add or remove. */
struct tracee *tracees_find(struct tracees *t, pid_t tid);
/* NULL without memory. */
struct tracee *tracees_add(struct tracees *t, pid_t tid, const struct proc_id *process);
void tracees_remove(struct tracees *t, pid_t tid);
bool tracees_have_process(const struct tracees *t, pid_t pid);
/* A thread that ended but is kept by its process (a leader before its threads) never stops: it
 * counts as stopped. */
void tracees_sweep(struct tracees *t);
bool tracees_all_stopped(const struct tracees *t);
/* Processes with a thread that is not stopped. */
size_t tracees_running(const struct tracees *t);
/* Folded by process, sorted by pid; caller frees. */
int tracees_list(const struct tracees *t, struct ptrace_held **ret, size_t *ret_count,
	struct err **err);
