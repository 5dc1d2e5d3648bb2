#include "hold/ptrace_hold.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/tracees.h"

/* A wake-up that comes just before waitid() is lost: it is sent again. */
#define WAKE_AGAIN_NS (NS_PER_MS / 2)
#define SWEEP_NS      (5 * NS_PER_MS)
#define SEIZE_ROUNDS  16
#define SEIZE_OPTIONS (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)
#define SEIZE_CHILDREN (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK)

enum request { REQUEST_NONE, REQUEST_SEIZE, REQUEST_STOP, REQUEST_CALL, REQUEST_QUIT };

struct ptrace_hold {
	pthread_t thread;
	pthread_mutex_t lock;	/* of all below */
	pthread_cond_t asked, changed;
	pid_t tid;
	struct ptrace_hooks hooks;
	bool frozen;
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

static void wake_handler(int signal)
{
	(void)signal;
}

static long trace(int request, pid_t tid, unsigned long data)
{
	return ptrace(request, tid, NULL, (void *)data);
}

/* A child or thread that the kernel seized for us as it was born. */
static struct tracee *tracee_adopt(struct ptrace_hold *h, pid_t tid)
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

	if (trace(PTRACE_SEIZE, tid, seize_options(h)) == 0) {
		if (!tracees_add(&h->all, tid, process))
			return err_errno(&h->err, ENOMEM, "seize thread %d", tid);
		if (h->frozen)
			trace(PTRACE_INTERRUPT, tid, 0);
		return 1;
	}
	code = errno;
	if (code == ESRCH || proc_read_stat(tid, &s, NULL) < 0 || s.state == 'Z' || s.state == 'X' ||
	    proc_tracer(tid, &tracer, NULL) < 0 || tracer == h->tid)
		return 0;
	if (tracer)
		return err_set(&h->err, EBUSY,
			"process %d (%s) is traced by process %d already: end that first (a debugger, "
			"strace, or another fault)", process->pid, s.comm, tracer);
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
			trace(PTRACE_INTERRUPT, h->all.list[i].tid, 0);
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

static int handle_seize(struct ptrace_hold *h)
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

static void handle_stop_request(struct ptrace_hold *h)
{
	h->frozen = true;
	for (size_t i = 0; i < h->all.count; i++)
		if (h->all.list[i].state == TRACEE_RUNNING || h->all.list[i].state == TRACEE_LISTENING)
			trace(PTRACE_INTERRUPT, h->all.list[i].tid, 0);
}

/* Whoever waits for the answer sends PTRACE_HOLD_WAKE meanwhile. */
static int handle_call(struct ptrace_hold *h)
{
	sigset_t wake, old;
	int r;

	sigemptyset(&wake);
	sigaddset(&wake, PTRACE_HOLD_WAKE);
	pthread_sigmask(SIG_BLOCK, &wake, &old);
	r = h->call(h->call_data);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

/* True: the thread is to end. */
static bool handle_request(struct ptrace_hold *h)
{
	bool quit = h->request == REQUEST_QUIT;

	h->result = 0;
	if (h->request == REQUEST_SEIZE)
		h->result = handle_seize(h);
	else if (h->request == REQUEST_STOP)
		handle_stop_request(h);
	else if (h->request == REQUEST_CALL)
		h->result = handle_call(h);
	if (h->request != REQUEST_NONE) {
		h->request = REQUEST_NONE;
		pthread_cond_broadcast(&h->changed);
	}
	return quit;
}

/* Takes what waitid(WNOWAIT) only showed. */
static void consume(pid_t tid, int what)
{
	siginfo_t info;

	waitid(P_PID, (id_t)tid, &info, what | WNOHANG | __WALL | __WNOTHREAD);
}

static bool is_stop_signal(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/*
 * A signal on its way, a fork, an exec: goes on at once. When frozen it is interrupted first, so it
 * stops again before another instruction of its program, then with nothing left to deliver. The stop
 * is not consumed: should we die here, the kernel delivers the signal itself.
 */
static void pass_on(struct ptrace_hold *h, pid_t tid, int signal, int event)
{
	unsigned long former = 0;

	if (event == PTRACE_EVENT_EXEC && ptrace(PTRACE_GETEVENTMSG, tid, NULL, &former) == 0 &&
	    (pid_t)former != tid)
		tracees_remove(&h->all, (pid_t)former);
	if (h->frozen)
		trace(PTRACE_INTERRUPT, tid, 0);
	trace(PTRACE_CONT, tid, event ? 0 : (unsigned long)signal);
}

static bool hook_takes(struct ptrace_hold *h, pid_t tid, int signal)
{
	enum ptrace_signal s = PTRACE_SIGNAL_NOT_MINE;

	if (h->hooks.signal)
		s = h->hooks.signal(h->hooks.data, tid, signal);
	if (s == PTRACE_SIGNAL_KEPT)
		consume(tid, WSTOPPED);
	return s != PTRACE_SIGNAL_NOT_MINE;
}

static void handle_stop(struct ptrace_hold *h, pid_t tid, int status)
{
	int signal = status & 0x7f, event = status >> 8;
	struct tracee *t = tracees_find(&h->all, tid);

	if (!t)
		t = tracee_adopt(h, tid);
	if (t && t->state == TRACEE_LEAVING) {
		trace(PTRACE_DETACH, tid, event ? 0 : (unsigned long)signal);
		tracees_remove(&h->all, tid);
		return;
	}
	if (event != PTRACE_EVENT_STOP) {
		if (event || !hook_takes(h, tid, signal))
			pass_on(h, tid, signal, event);
		return;
	}
	consume(tid, WSTOPPED);
	if (h->frozen && t) {
		t->state = TRACEE_STOPPED;
	} else if (is_stop_signal(signal)) {
		trace(PTRACE_LISTEN, tid, 0);
		if (t)
			t->state = TRACEE_LISTENING;
	} else {
		trace(PTRACE_CONT, tid, 0);
		if (t)
			t->state = TRACEE_RUNNING;
	}
}

static void handle_event(struct ptrace_hold *h, const siginfo_t *info)
{
	if (info->si_code == CLD_TRAPPED || info->si_code == CLD_STOPPED) {
		handle_stop(h, info->si_pid, info->si_status);
	} else {
		/* A zombie reaches its own parent only after its tracer has seen it. */
		consume(info->si_pid, WEXITED);
		tracees_remove(&h->all, info->si_pid);
		if (h->hooks.gone)
			h->hooks.gone(h->hooks.data, info->si_pid);
	}
	atomic_fetch_add_explicit(&h->events, 1, memory_order_relaxed);
	if (h->frozen && tracees_all_stopped(&h->all))
		pthread_cond_broadcast(&h->changed);
}

static void *tracer_main(void *data)
{
	struct ptrace_hold *h = data;

	pthread_mutex_lock(&h->lock);
	h->tid = (pid_t)syscall(SYS_gettid);
	pthread_cond_broadcast(&h->changed);
	while (!handle_request(h)) {
		siginfo_t info = {0};
		int r, code;

		pthread_mutex_unlock(&h->lock);
		r = waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD);
		code = errno;
		pthread_mutex_lock(&h->lock);
		if (r == 0) {
			handle_event(h, &info);
		} else if (code == ECHILD) {
			h->all.count = 0;
			while (h->request == REQUEST_NONE)
				pthread_cond_wait(&h->asked, &h->lock);
		}
		if (h->hooks.woken)
			h->hooks.woken(h->hooks.data);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void wait_changed(struct ptrace_hold *h, uint64_t until_ns)
{
	struct timespec t = {
		.tv_sec = (time_t)(until_ns / NS_PER_S),
		.tv_nsec = (long)(until_ns % NS_PER_S),
	};

	pthread_cond_timedwait(&h->changed, &h->lock, &t);
}

/* Under the lock; returns when the tracer has done it. */
static int ask(struct ptrace_hold *h, enum request request)
{
	h->request = request;
	while (h->request != REQUEST_NONE) {
		pthread_cond_signal(&h->asked);
		syscall(SYS_tgkill, getpid(), h->tid, PTRACE_HOLD_WAKE);
		wait_changed(h, now_ns() + WAKE_AGAIN_NS);
	}
	return h->result;
}

static void hold_destroy(struct ptrace_hold *h)
{
	pthread_cond_destroy(&h->changed);
	pthread_cond_destroy(&h->asked);
	pthread_mutex_destroy(&h->lock);
	free(h->all.list);
	err_free(h->err);
	free(h);
}

/* Every signal is blocked in the tracer but the one that wakes it; a blocked SIGCHLD would pile up
 * for the process, an open one with its default action is dropped where it is sent. */
static int tracer_start(struct ptrace_hold *h)
{
	struct sigaction action = {.sa_handler = wake_handler};
	sigset_t mask, old;
	int r;

	if (sigaction(PTRACE_HOLD_WAKE, &action, NULL) < 0)
		return errno;
	sigfillset(&mask);
	sigdelset(&mask, PTRACE_HOLD_WAKE);
	sigdelset(&mask, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &mask, &old);
	r = pthread_create(&h->thread, NULL, tracer_main, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int ptrace_hold_new(struct ptrace_hold **ret, struct err **err)
{
	static const struct ptrace_hooks none = {.data = NULL};

	return ptrace_hold_new_hooked(&none, ret, err);
}

int ptrace_hold_new_hooked(const struct ptrace_hooks *hooks, struct ptrace_hold **ret,
	struct err **err)
{
	struct ptrace_hold *h = calloc(1, sizeof(*h));
	pthread_condattr_t attr;
	int r;

	if (!h)
		return err_errno(err, ENOMEM, "start a tracer");
	h->hooks = *hooks;
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->asked, NULL);
	pthread_cond_init(&h->changed, &attr);
	pthread_condattr_destroy(&attr);
	r = tracer_start(h);
	if (r != 0) {
		hold_destroy(h);
		return err_errno(err, r, "start a tracer");
	}
	pthread_mutex_lock(&h->lock);
	while (h->tid == 0)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	*ret = h;
	return 0;
}

int ptrace_hold_seize(struct ptrace_hold *h, const struct proc_id *ids, size_t count,
	size_t *ret_new, struct err **err)
{
	struct err *why;
	size_t n_new;
	int r;

	pthread_mutex_lock(&h->lock);
	h->ids = ids;
	h->n_ids = count;
	h->n_new = 0;
	r = ask(h, REQUEST_SEIZE);
	n_new = h->n_new;
	why = steal_ptr(h->err);
	pthread_mutex_unlock(&h->lock);
	if (r < 0) {
		r = err_set(err, r, "%s", err_text(why));
		err_free(why);
		return r;
	}
	*ret_new = n_new;
	return 0;
}

int ptrace_hold_stop(struct ptrace_hold *h, uint64_t timeout_ns, size_t *ret_running)
{
	uint64_t now = now_ns(), deadline = now + timeout_ns, next = now + SWEEP_NS;

	pthread_mutex_lock(&h->lock);
	ask(h, REQUEST_STOP);
	while (!tracees_all_stopped(&h->all) && now < deadline) {
		wait_changed(h, next < deadline ? next : deadline);
		now = now_ns();
		if (now >= next) {
			tracees_sweep(&h->all);
			next = now + SWEEP_NS;
		}
	}
	*ret_running = tracees_running(&h->all);
	pthread_mutex_unlock(&h->lock);
	return 0;
}

int ptrace_hold_list(struct ptrace_hold *h, struct ptrace_held **ret, size_t *ret_count,
	struct err **err)
{
	int r;

	pthread_mutex_lock(&h->lock);
	r = tracees_list(&h->all, ret, ret_count, err);
	pthread_mutex_unlock(&h->lock);
	return r;
}

int ptrace_hold_call(struct ptrace_hold *h, int (*call)(void *data), void *data)
{
	int r;

	pthread_mutex_lock(&h->lock);
	h->call = call;
	h->call_data = data;
	r = ask(h, REQUEST_CALL);
	pthread_mutex_unlock(&h->lock);
	return r;
}

uint64_t ptrace_hold_events(const struct ptrace_hold *h)
{
	return atomic_load_explicit(&h->events, memory_order_relaxed);
}

pid_t ptrace_hold_tracer(const struct ptrace_hold *h)
{
	return h->tid;
}

void ptrace_hold_free(struct ptrace_hold *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	ask(h, REQUEST_QUIT);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	/* The kernel wakes the joiner before it detaches the tracees, and drops the thread after. */
	for (int i = 0; i < 20000 && syscall(SYS_tgkill, getpid(), h->tid, 0) == 0; i++)
		usleep(50);
	hold_destroy(h);
}
