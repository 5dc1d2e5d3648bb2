#include "hold/ptrace_state.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"

/* A wake-up that comes just before waitid() is lost: it is sent again. */
#define WAKE_AGAIN_NS (NS_PER_MS / 2)
#define SWEEP_NS      (5 * NS_PER_MS)

/* Those of this process. Who asks for one, and who ends it, is the control thread alone. */
static struct {
	pthread_mutex_t lock;
	struct ptrace_hold *first;
} holds = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void wake_handler(int signal)
{
	(void)signal;
}

static void handle_stop_request(struct ptrace_hold *h)
{
	h->frozen = true;
	for (size_t i = 0; i < h->all.count; i++)
		if (h->all.list[i].state == TRACEE_RUNNING || h->all.list[i].state == TRACEE_LISTENING)
			ptrace_ask(PTRACE_INTERRUPT, h->all.list[i].tid, 0);
}

/* As each was: running, or in a group stop of its own. */
static void handle_resume_request(struct ptrace_hold *h)
{
	if (!h->paused)
		return;
	h->paused = h->frozen = false;
	for (size_t i = 0; i < h->all.count; i++) {
		struct tracee *t = &h->all.list[i];

		if (t->state != TRACEE_STOPPED)
			continue;
		ptrace_ask(t->group_stop ? PTRACE_LISTEN : PTRACE_CONT, t->tid, 0);
		t->state = t->group_stop ? TRACEE_LISTENING : TRACEE_RUNNING;
	}
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
	switch (h->request) {
	case REQUEST_SEIZE:
		h->result = ptrace_seize_all(h);
		break;
	case REQUEST_PAUSE:
		h->paused = h->paused || !h->frozen;
		handle_stop_request(h);
		break;
	case REQUEST_STOP:
		h->paused = false;
		handle_stop_request(h);
		break;
	case REQUEST_RESUME:
		handle_resume_request(h);
		break;
	case REQUEST_CALL:
		h->result = handle_call(h);
		break;
	default:
		break;
	}
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
		ptrace_ask(PTRACE_INTERRUPT, tid, 0);
	ptrace_ask(PTRACE_CONT, tid, event ? 0 : (unsigned long)signal);
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
		t = ptrace_adopt(h, tid);
	if (t && t->state == TRACEE_LEAVING) {
		ptrace_ask(PTRACE_DETACH, tid, event ? 0 : (unsigned long)signal);
		tracees_remove(&h->all, tid);
		return;
	}
	if (event != PTRACE_EVENT_STOP) {
		if (event || !hook_takes(h, tid, signal))
			pass_on(h, tid, signal, event);
		return;
	}
	consume(tid, WSTOPPED);
	if (t)
		t->group_stop = is_stop_signal(signal);
	if (h->frozen && t) {
		t->state = TRACEE_STOPPED;
	} else if (is_stop_signal(signal)) {
		ptrace_ask(PTRACE_LISTEN, tid, 0);
		if (t)
			t->state = TRACEE_LISTENING;
	} else {
		ptrace_ask(PTRACE_CONT, tid, 0);
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

static void list_add(struct ptrace_hold *h)
{
	pthread_mutex_lock(&holds.lock);
	h->next = holds.first;
	holds.first = h;
	pthread_mutex_unlock(&holds.lock);
}

static void list_remove(struct ptrace_hold *h)
{
	struct ptrace_hold **at = &holds.first;

	pthread_mutex_lock(&holds.lock);
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	pthread_mutex_unlock(&holds.lock);
}

struct ptrace_hold *ptrace_hold_find(pid_t tracer)
{
	struct ptrace_hold *h;

	pthread_mutex_lock(&holds.lock);
	h = holds.first;
	while (h && h->tid != tracer)
		h = h->next;
	pthread_mutex_unlock(&holds.lock);
	return h;
}

int ptrace_refuse_traced(pid_t pid, const char *comm, pid_t tracer, struct err **err)
{
	const struct ptrace_hold *h = ptrace_hold_find(tracer);

	if (h && h->owner[0])
		return err_set(err, EBUSY, "process %d (%s) is held by %s: end that first", (int)pid, comm,
			h->owner);
	return err_set(err, EBUSY, "process %d (%s) is traced by process %d already: end that first (a "
		"debugger, strace, or another fault)", (int)pid, comm, (int)tracer);
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
	snprintf(h->owner, sizeof(h->owner), "%s", hooks->owner ? hooks->owner : "");
	h->hooks.owner = NULL;
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
	list_add(h);
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

static void stop_and_wait(struct ptrace_hold *h, enum request request, uint64_t timeout_ns)
{
	uint64_t now = now_ns(), deadline = now + timeout_ns, next = now + SWEEP_NS;

	ask(h, request);
	while (!tracees_all_stopped(&h->all) && now < deadline) {
		wait_changed(h, next < deadline ? next : deadline);
		now = now_ns();
		if (now >= next) {
			tracees_sweep(&h->all);
			next = now + SWEEP_NS;
		}
	}
}

int ptrace_hold_stop(struct ptrace_hold *h, uint64_t timeout_ns, size_t *ret_running)
{
	pthread_mutex_lock(&h->lock);
	stop_and_wait(h, REQUEST_STOP, timeout_ns);
	*ret_running = tracees_running(&h->all);
	pthread_mutex_unlock(&h->lock);
	return 0;
}

void ptrace_hold_pause(struct ptrace_hold *h, uint64_t timeout_ns)
{
	pthread_mutex_lock(&h->lock);
	stop_and_wait(h, REQUEST_PAUSE, timeout_ns);
	pthread_mutex_unlock(&h->lock);
}

void ptrace_hold_resume(struct ptrace_hold *h)
{
	pthread_mutex_lock(&h->lock);
	ask(h, REQUEST_RESUME);
	pthread_mutex_unlock(&h->lock);
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
	list_remove(h);
	pthread_mutex_lock(&h->lock);
	ask(h, REQUEST_QUIT);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	/* The kernel wakes the joiner before it detaches the tracees, and drops the thread after. */
	for (int i = 0; i < 20000 && syscall(SYS_tgkill, getpid(), h->tid, 0) == 0; i++)
		usleep(50);
	hold_destroy(h);
}
