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

#define WAKE_SIGNAL (SIGRTMIN + 1)
/* A wake-up that comes just before waitid() is lost: it is sent again. */
#define WAKE_AGAIN_NS (NS_PER_MS / 2)
#define SWEEP_NS      (5 * NS_PER_MS)
#define SEIZE_ROUNDS  16
#define SEIZE_OPTIONS                                                                       \
	(PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

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
};

enum request { REQUEST_NONE, REQUEST_SEIZE, REQUEST_STOP, REQUEST_QUIT };

struct ptrace_hold {
	pthread_t thread;
	pthread_mutex_t lock;	/* of all below */
	pthread_cond_t asked, changed;
	pid_t tid;
	bool frozen;
	struct tracee *tracees;	/* by tid */
	size_t count, room;

	enum request request;
	const struct proc_id *ids;
	size_t n_ids, n_new;
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

/* Index of tid, or where it belongs. */
static size_t tracee_place(const struct ptrace_hold *h, pid_t tid)
{
	size_t low = 0, high = h->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (h->tracees[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct tracee *tracee_find(struct ptrace_hold *h, pid_t tid)
{
	size_t i = tracee_place(h, tid);

	return i < h->count && h->tracees[i].tid == tid ? &h->tracees[i] : NULL;
}

static struct tracee *tracee_add(struct ptrace_hold *h, pid_t tid, const struct proc_id *process)
{
	size_t i = tracee_place(h, tid);

	if (h->count == h->room) {
		size_t room = h->room ? h->room * 2 : 64;
		struct tracee *more = reallocarray(h->tracees, room, sizeof(*more));

		if (!more)
			return NULL;
		h->tracees = more;
		h->room = room;
	}
	memmove(&h->tracees[i + 1], &h->tracees[i], (h->count - i) * sizeof(*h->tracees));
	h->tracees[i] = (struct tracee){.tid = tid, .process = *process};
	h->count++;
	return &h->tracees[i];
}

static void tracee_remove(struct ptrace_hold *h, pid_t tid)
{
	size_t i = tracee_place(h, tid);

	if (i >= h->count || h->tracees[i].tid != tid)
		return;
	h->count--;
	memmove(&h->tracees[i], &h->tracees[i + 1], (h->count - i) * sizeof(*h->tracees));
}

/* A child or thread that the kernel seized for us as it was born. */
static struct tracee *tracee_adopt(struct ptrace_hold *h, pid_t tid)
{
	_cleanup_free_ char *tgid = NULL;
	struct proc_id process;

	if (proc_status_field(tid, "Tgid", &tgid, NULL) < 0 ||
	    proc_identify((pid_t)strtol(tgid, NULL, 10), &process, NULL) < 0)
		return NULL;
	return tracee_add(h, tid, &process);
}

static bool process_is_known(const struct ptrace_hold *h, pid_t pid)
{
	for (size_t i = 0; i < h->count; i++)
		if (h->tracees[i].process.pid == pid)
			return true;
	return false;
}

/* 1: seized now. 0: nothing to do: gone, or already ours. */
static int seize_thread(struct ptrace_hold *h, pid_t tid, const struct proc_id *process)
{
	struct proc_stat s;
	pid_t tracer = 0;
	int code;

	if (trace(PTRACE_SEIZE, tid, SEIZE_OPTIONS) == 0) {
		if (!tracee_add(h, tid, process))
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
	for (size_t i = 0; i < h->count; i++)
		if (h->tracees[i].process.pid == process->pid &&
		    h->tracees[i].process.start_ticks == process->start_ticks) {
			h->tracees[i].state = TRACEE_LEAVING;
			trace(PTRACE_INTERRUPT, h->tracees[i].tid, 0);
		}
}

/* A thread may be born while we list them: until a look shows no new one. */
static int seize_process(struct ptrace_hold *h, const struct proc_id *id, bool *ret_new)
{
	bool known = process_is_known(h, id->pid), added = true;
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
			if (tracee_find(h, tids[i]))
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
	for (size_t i = 0; i < h->count; i++)
		if (h->tracees[i].state == TRACEE_RUNNING || h->tracees[i].state == TRACEE_LISTENING)
			trace(PTRACE_INTERRUPT, h->tracees[i].tid, 0);
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
		tracee_remove(h, (pid_t)former);
	if (h->frozen)
		trace(PTRACE_INTERRUPT, tid, 0);
	trace(PTRACE_CONT, tid, event ? 0 : (unsigned long)signal);
}

static void handle_stop(struct ptrace_hold *h, pid_t tid, int status)
{
	int signal = status & 0x7f, event = status >> 8;
	struct tracee *t = tracee_find(h, tid);

	if (!t)
		t = tracee_adopt(h, tid);
	if (t && t->state == TRACEE_LEAVING) {
		trace(PTRACE_DETACH, tid, event ? 0 : (unsigned long)signal);
		tracee_remove(h, tid);
		return;
	}
	if (event != PTRACE_EVENT_STOP) {
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
		tracee_remove(h, info->si_pid);
	}
	atomic_fetch_add_explicit(&h->events, 1, memory_order_relaxed);
	if (h->frozen)
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
			h->count = 0;
			while (h->request == REQUEST_NONE)
				pthread_cond_wait(&h->asked, &h->lock);
		}
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
		syscall(SYS_tgkill, getpid(), h->tid, WAKE_SIGNAL);
		wait_changed(h, now_ns() + WAKE_AGAIN_NS);
	}
	return h->result;
}

static void hold_destroy(struct ptrace_hold *h)
{
	pthread_cond_destroy(&h->changed);
	pthread_cond_destroy(&h->asked);
	pthread_mutex_destroy(&h->lock);
	free(h->tracees);
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

	if (sigaction(WAKE_SIGNAL, &action, NULL) < 0)
		return errno;
	sigfillset(&mask);
	sigdelset(&mask, WAKE_SIGNAL);
	sigdelset(&mask, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &mask, &old);
	r = pthread_create(&h->thread, NULL, tracer_main, h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int ptrace_hold_new(struct ptrace_hold **ret, struct err **err)
{
	struct ptrace_hold *h = calloc(1, sizeof(*h));
	pthread_condattr_t attr;
	int r;

	if (!h)
		return err_errno(err, ENOMEM, "start a tracer");
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

/* A thread that ended but is kept by its process (a leader before its threads) never stops. */
static void sweep(struct ptrace_hold *h)
{
	for (size_t i = 0; i < h->count; i++) {
		struct proc_stat s;

		if (h->tracees[i].state == TRACEE_RUNNING &&
		    proc_read_stat(h->tracees[i].tid, &s, NULL) == 0 && s.state == 'Z')
			h->tracees[i].state = TRACEE_STOPPED;
	}
}

static size_t running(const struct ptrace_hold *h)
{
	size_t n = 0;
	pid_t last = 0;

	for (size_t i = 0; i < h->count; i++)
		if (h->tracees[i].state != TRACEE_STOPPED && h->tracees[i].process.pid != last) {
			last = h->tracees[i].process.pid;
			n++;
		}
	return n;
}

int ptrace_hold_stop(struct ptrace_hold *h, uint64_t timeout_ns, size_t *ret_running)
{
	uint64_t now = now_ns(), deadline = now + timeout_ns, next = now + SWEEP_NS;
	size_t n;

	pthread_mutex_lock(&h->lock);
	ask(h, REQUEST_STOP);
	while ((n = running(h)) > 0 && now < deadline) {
		wait_changed(h, next < deadline ? next : deadline);
		now = now_ns();
		if (now >= next) {
			sweep(h);
			next = now + SWEEP_NS;
		}
	}
	pthread_mutex_unlock(&h->lock);
	*ret_running = n;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	const struct ptrace_held *x = a, *y = b;

	return (x->id.pid > y->id.pid) - (x->id.pid < y->id.pid);
}

/* One of each thread, sorted by process, then folded. */
static size_t fold(struct ptrace_held *list, size_t n)
{
	size_t count = 0;

	qsort(list, n, sizeof(*list), by_pid);
	for (size_t i = 0; i < n; i++) {
		struct ptrace_held *last = count ? &list[count - 1] : NULL;

		if (!last || last->id.pid != list[i].id.pid) {
			list[count++] = list[i];
			continue;
		}
		last->threads++;
		last->stopped += list[i].stopped;
		if (!last->running)
			last->running = list[i].running;
	}
	return count;
}

int ptrace_hold_list(struct ptrace_hold *h, struct ptrace_held **ret, size_t *ret_count,
	struct err **err)
{
	struct ptrace_held *list;
	size_t n = 0;

	pthread_mutex_lock(&h->lock);
	list = calloc(h->count + 1, sizeof(*list));
	for (size_t i = 0; list && i < h->count; i++) {
		const struct tracee *t = &h->tracees[i];
		bool stopped = t->state == TRACEE_STOPPED;

		if (t->state == TRACEE_LEAVING)
			continue;
		list[n++] = (struct ptrace_held){
			.id = t->process,
			.threads = 1,
			.stopped = stopped,
			.running = stopped ? 0 : t->tid,
		};
	}
	pthread_mutex_unlock(&h->lock);
	if (!list)
		return err_errno(err, ENOMEM, "list the held processes");
	*ret_count = fold(list, n);
	*ret = list;
	return 0;
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
