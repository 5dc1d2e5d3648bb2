#include "hold/ptrace_state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"

#define SEIZE_ROUNDS   16
#define SEIZE_OPTIONS  (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)
#define SEIZE_CHILDREN (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)

struct tracee *ptrace_adopt(struct ptrace_hold *h, pid_t tid)
{
	_cleanup_free_ char *tgid = NULL;
	struct proc_id process;

	if (proc_status_field(tid, "Tgid", &tgid, NULL) < 0 ||
	    proc_identify((pid_t)strtol(tgid, NULL, 10), &process, NULL) < 0)
		return NULL;
	return tracees_add(&h->all, tid, &process);
}

static unsigned long seize_options(const struct ptrace_hold *h)
{
	return SEIZE_OPTIONS | (h->hooks.leave_children ? 0 : SEIZE_CHILDREN);
}

/* 1: seized now. 0: nothing to do: gone, or already ours. */
static int seize_thread(struct ptrace_hold *h, pid_t tid, const struct proc_id *process)
{
	struct proc_stat s;
	pid_t tracer = 0;
	int code;

	if (ptrace_ask(PTRACE_SEIZE, tid, seize_options(h)) == 0) {
		if (!tracees_add(&h->all, tid, process))
			return err_errno(&h->err, ENOMEM, "seize thread %d", tid);
		if (h->frozen)
			ptrace_ask(PTRACE_INTERRUPT, tid, 0);
		return 1;
	}
	code = errno;
	if (code == ESRCH || proc_read_stat(tid, &s, NULL) < 0 || s.state == 'Z' || s.state == 'X' ||
	    proc_tracer(tid, &tracer, NULL) < 0 || tracer == h->tid)
		return 0;
	if (tracer)
		return ptrace_refuse_traced(process->pid, s.comm, tracer, &h->err);
	return err_errno(&h->err, code, "ptrace(PTRACE_SEIZE) of process %d (%s), thread %d",
		process->pid, s.comm, tid);
}

/* A pid that was reused between being listed and seized: let it go as soon as it can be. */
static void let_go(struct ptrace_hold *h, const struct proc_id *process)
{
	for (size_t i = 0; i < h->all.count; i++)
		if (h->all.list[i].process.pid == process->pid &&
		    h->all.list[i].process.start_ticks == process->start_ticks) {
			h->all.list[i].state = TRACEE_LEAVING;
			ptrace_ask(PTRACE_INTERRUPT, h->all.list[i].tid, 0);
		}
}

/* A thread may be born while we list them: until a look shows no new one. */
static int seize_process(struct ptrace_hold *h, const struct proc_id *id, bool *ret_new)
{
	bool known = tracees_have_process(&h->all, id->pid), added = true;
	struct proc_id now;
	int r = 0;

	*ret_new = false;
	for (int round = 0; added && round < SEIZE_ROUNDS; round++) {
		_cleanup_free_ pid_t *tids = NULL;
		size_t n;

		added = false;
		if (proc_threads(id->pid, &tids, &n, NULL) < 0)
			break;
		for (size_t i = 0; i < n; i++) {
			if (tracees_find(&h->all, tids[i]))
				continue;
			r = seize_thread(h, tids[i], id);
			if (r < 0)
				return r;
			added |= r > 0;
			*ret_new |= r > 0 && !known;
		}
	}
	if (*ret_new && proc_identify(id->pid, &now, NULL) == 0 && now.start_ticks != id->start_ticks) {
		let_go(h, id);
		*ret_new = false;
	}
	return 0;
}

int ptrace_seize_all(struct ptrace_hold *h)
{
	for (size_t i = 0; i < h->n_ids; i++) {
		bool is_new;
		int r;

		if (h->ids[i].pid <= 1 || h->ids[i].pid == getpid())
			return err_set(&h->err, EPERM, "process %d is never held", h->ids[i].pid);
		if (!proc_is_alive(&h->ids[i]))
			continue;
		r = seize_process(h, &h->ids[i], &is_new);
		if (r < 0)
			return r;
		h->n_new += is_new;
	}
	return 0;
}
