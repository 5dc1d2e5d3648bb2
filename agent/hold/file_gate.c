#include "hold/file_gate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "hold/path_cache.h"
#include "hold/promptness.h"
#include "hold/queue.h"
#include "hold/thread_call.h"

/* include/uapi/linux/fanotify.h of Linux 6.14. */
#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS 0x00100000
#endif
#ifndef FAN_DENY_ERRNO
#define FAN_DENY_ERRNO(code) (FAN_DENY | (((uint32_t)(code) & 0xff) << 24))
#endif
#define EVENT_INFO_RANGE 6

struct event_range {
	struct fanotify_event_info_header header;
	uint32_t pad;
	uint64_t offset, count;
};

#define INIT_FLAGS                                                                          \
	(FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE |         \
		FAN_UNLIMITED_MARKS | FAN_REPORT_TID)
#define EVENT_FLAGS (O_RDONLY | O_LARGEFILE | O_CLOEXEC | O_NOATIME)

/* A read or write that waits. */
struct held {
	int fd;			/* the event's; names it to the kernel */
	uint64_t arrival_ns;
};

struct file_gate {
	struct gate gate;
	struct gate_filter filter;
	int fan_fd, wake_fd, timer_fd;
	int *dir_fds;
	size_t n_dirs;
	pthread_t thread;
	bool running;
	atomic_bool stopping;

	/* The thread's own. */
	struct queue queue;
	struct promptness promptness;
	struct path_cache paths;
	struct thread_calls calls;
	uint64_t timer_ns;
	char buffer[16384] __attribute__((aligned(8)));
};

int file_gate_supported(struct err **err)
{
	_cleanup_close_ int fd = fanotify_init(INIT_FLAGS, EVENT_FLAGS);

	if (fd < 0)
		return err_errno(err, EOPNOTSUPP,
			"fanotify_init(FAN_CLASS_PRE_CONTENT): %s (needs CAP_SYS_ADMIN and "
			"CONFIG_FANOTIFY_ACCESS_PERMISSIONS)", strerror(errno));
	/* A directory's own content is never read this way: nothing is held by this mark. */
	if (fanotify_mark(fd, FAN_MARK_ADD, FAN_PRE_ACCESS, AT_FDCWD, "/") < 0 && errno == EINVAL)
		return err_set(err, EOPNOTSUPP,
			"this kernel has no fanotify pre-content events (FAN_PRE_ACCESS, Linux 6.14)");
	return 0;
}

bool file_gate_can_fail_with(int code)
{
	return code == EIO || code == ENOSPC || code == EDQUOT || code == EAGAIN || code == EBUSY;
}

static void event_answer(struct file_gate *g, int fd, uint32_t answer)
{
	struct fanotify_response response = {.fd = fd, .response = answer};

	(void)!write(g->fan_fd, &response, sizeof(response));
	close(fd);
}

static bool event_matches(struct file_gate *g, const struct fanotify_event_metadata *m, uint64_t now,
	enum disk_operation *ret_operation, enum disk_class *ret_class)
{
	static const unsigned both = 1U << DISK_READ | 1U << DISK_WRITE;

	if (g->filter.process && !g->filter.process(g->filter.data, m->pid))
		return false;
	if (!path_cache_matches(&g->paths, &g->filter, m->fd, now, ret_class))
		return false;
	*ret_operation = m->mask & FAN_OPEN_PERM ? DISK_OPEN : DISK_OPERATION_MAX;
	if (*ret_operation == DISK_OPEN || (g->filter.operations & both) == both)
		return true;
	/* What the event does not say. */
	*ret_operation = thread_calls_get(&g->calls, m->pid);
	return *ret_operation < DISK_OPERATION_MAX &&
	       (g->filter.operations & 1U << *ret_operation);
}

static uint64_t event_bytes(const struct fanotify_event_metadata *m)
{
	const struct event_range *range = (const void *)(m + 1);

	if (m->event_len < sizeof(*m) + sizeof(*range) || range->header.info_type != EVENT_INFO_RANGE)
		return 0;
	return range->count;
}

static bool event_hold(struct file_gate *g, int fd, uint64_t arrival_ns, uint64_t delay_ns)
{
	struct held *h = malloc(sizeof(*h));

	if (!h)
		return false;
	promptness_hold(&g->promptness);
	*h = (struct held){.fd = fd, .arrival_ns = arrival_ns};
	if (queue_push(&g->queue, arrival_ns + delay_ns, h) < 0) {
		free(h);
		return false;
	}
	return true;
}

static void event_take(struct file_gate *g, const struct fanotify_event_metadata *m)
{
	enum disk_operation operation = DISK_OPERATION_MAX;
	enum disk_class class = DISK_CLASS_MAX;
	enum gate_verdict verdict = GATE_PASS;
	uint64_t arrival = now_ns(), delay = 0;

	g->gate.counts.seen++;
	if (gate_is_open(&g->gate) && event_matches(g, m, arrival, &operation, &class)) {
		if (g->filter.taken && operation != DISK_OPEN)
			g->filter.taken(g->filter.data, m->pid);
		verdict = gate_choose(&g->gate, &delay);
	}
	if (verdict == GATE_HOLD && !event_hold(g, m->fd, arrival, delay)) {
		g->gate.counts.lost++;
		verdict = GATE_PASS;
	}
	if (verdict == GATE_PASS) {
		event_answer(g, m->fd, FAN_ALLOW);
		gate_count_passed(&g->gate, now_ns() - arrival);
		if (!queue_head(&g->queue))
			promptness_pass(&g->promptness, arrival);
		return;
	}
	gate_count_hit(&g->gate, verdict, operation, class, event_bytes(m));
	if (verdict == GATE_FAIL)
		event_answer(g, m->fd, FAN_DENY_ERRNO(g->gate.effect.code));
}

/* false if there were none. */
static bool events_read(struct file_gate *g)
{
	ssize_t got = read(g->fan_fd, g->buffer, sizeof(g->buffer)), n = got;
	const struct fanotify_event_metadata *m = (const void *)g->buffer;

	for (; n > 0 && FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
		if (m->vers != FANOTIFY_METADATA_VERSION)
			break;
		if (m->fd >= 0)
			event_take(g, m);
	}
	return got > 0;
}

/* Who waits for an answer often asks again at once. */
static bool events_await(struct file_gate *g)
{
	uint64_t until = now_ns() + PROMPT_SPIN_NS;
	bool found = false;

	if (queue_head(&g->queue) || !promptness_spins(&g->promptness))
		return false;
	while (!found && !atomic_load(&g->stopping) && now_ns() < until)
		found = events_read(g);
	promptness_spun(&g->promptness, found);
	return found;
}

static void held_answer(struct file_gate *g, const struct queue_entry *e)
{
	struct held *h = e->item;
	uint64_t now;

	event_answer(g, h->fd, FAN_ALLOW);
	now = now_ns();
	gate_count_given(&g->gate, now - h->arrival_ns, now > e->due_ns ? now - e->due_ns : 0);
	free(h);
}

static void held_release(struct file_gate *g, bool all)
{
	const struct queue_entry *head;
	struct queue_entry e;

	while ((head = queue_head(&g->queue)) && (all || head->due_ns <= now_ns())) {
		queue_pop(&g->queue, &e);
		held_answer(g, &e);
	}
}

/* The next to leave, at most until the deadline. */
static void timer_set(struct file_gate *g)
{
	const struct queue_entry *head = queue_head(&g->queue);
	uint64_t until = atomic_load(&g->gate.until_boot_ns), boot = boot_ns(), wanted = 0;
	struct itimerspec at = {0};

	if (head) {
		uint64_t over = now_ns() + (until > boot ? until - boot : 0);

		wanted = head->due_ns < over ? head->due_ns : over;
	}
	if (wanted == g->timer_ns)
		return;
	at.it_value.tv_sec = (time_t)(wanted / NS_PER_S);
	at.it_value.tv_nsec = (long)(wanted % NS_PER_S);
	timerfd_settime(g->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
	g->timer_ns = wanted;
}

static void *gate_thread(void *data)
{
	struct file_gate *g = data;
	struct pollfd fds[] = {
		{.fd = g->fan_fd, .events = POLLIN},
		{.fd = g->wake_fd, .events = POLLIN},
		{.fd = g->timer_fd, .events = POLLIN},
	};

	promptness_init(&g->promptness, "pgjolt-file");
	while (!atomic_load(&g->stopping)) {
		uint64_t ignored;

		if (poll(fds, ELEMENTS(fds), -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			(void)!read(g->wake_fd, &ignored, sizeof(ignored));
		if (fds[0].revents)
			events_read(g);
		do {
			held_release(g, !gate_is_open(&g->gate));
			timer_set(g);
			gate_publish(&g->gate);
		} while (fds[0].revents && events_await(g));
	}
	held_release(g, true);
	gate_publish(&g->gate);
	promptness_done(&g->promptness);
	return NULL;
}

static int mark_add(const struct file_gate *g, int fan_fd, int dir_fd, struct err **err)
{
	static const unsigned accesses = 1U << DISK_READ | 1U << DISK_WRITE;
	uint64_t mask = 0;

	if (g->filter.operations & accesses)
		mask |= FAN_PRE_ACCESS;
	if (g->filter.operations & 1U << DISK_OPEN)
		mask |= FAN_OPEN_PERM;
	if (fanotify_mark(fan_fd, FAN_MARK_ADD | FAN_MARK_MOUNT, mask, dir_fd, NULL) == 0)
		return 0;
	if (errno == EINVAL || errno == EOPNOTSUPP)
		return err_set(err, EOPNOTSUPP,
			"the file system of the data directory has no fanotify pre-content events "
			"(%s)", strerror(errno));
	return err_errno(err, errno, "mark the mount of the data directory by fanotify");
}

/* In a group of its own, which goes with its mark before anything else can come by. */
static int marks_try(const struct file_gate *g, struct err **err)
{
	_cleanup_close_ int fd = fanotify_init(INIT_FLAGS, EVENT_FLAGS);
	int r = fd < 0 ? err_errno(err, errno, "fanotify_init(FAN_CLASS_PRE_CONTENT)") : 0;

	for (size_t i = 0; i < g->n_dirs && r == 0; i++)
		r = mark_add(g, fd, g->dir_fds[i], err);
	return r;
}

/* A held access is a descriptor of ours. */
static void descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int descriptors_open(struct file_gate *g, const int *dir_fds, size_t n_dirs, struct err **err)
{
	g->dir_fds = calloc(n_dirs, sizeof(int));
	if (!g->dir_fds)
		return err_errno(err, ENOMEM, "make a file gate");
	memcpy(g->dir_fds, dir_fds, n_dirs * sizeof(int));
	g->n_dirs = n_dirs;
	descriptors_raise();
	g->fan_fd = fanotify_init(INIT_FLAGS, EVENT_FLAGS);
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (g->fan_fd < 0 || g->wake_fd < 0 || g->timer_fd < 0)
		return err_errno(err, errno, "make a file gate's descriptors");
	return 0;
}

static int thread_start(struct file_gate *g, struct err **err)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&g->thread, NULL, gate_thread, g);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_errno(err, r, "start the file gate's thread");
	g->running = true;
	return 0;
}

int file_gate_new(const struct gate_effect *effect, const struct gate_filter *filter,
	const int *dir_fds, size_t n_dirs, struct file_gate **ret, struct err **err)
{
	_cleanup_(file_gate_freep) struct file_gate *g = NULL;
	int r;

	if (effect->code && !file_gate_can_fail_with(effect->code))
		return err_set(err, EOPNOTSUPP, "the file gate cannot fail a call with %s",
			strerrorname_np(effect->code));
	g = calloc(1, sizeof(*g));
	if (!g)
		return err_errno(err, ENOMEM, "make a file gate");
	g->fan_fd = g->wake_fd = g->timer_fd = -1;
	gate_init(&g->gate, effect);
	g->filter = *filter;
	queue_init(&g->queue, 0);
	thread_calls_init(&g->calls);
	r = descriptors_open(g, dir_fds, n_dirs, err);
	if (r == 0)
		r = marks_try(g, err);
	if (r == 0)
		r = thread_start(g, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(g);
	return 0;
}

int file_gate_fire(struct file_gate *g, uint64_t until_boot_ns, struct err **err)
{
	gate_set_deadline(&g->gate, until_boot_ns);
	for (size_t i = 0; i < g->n_dirs; i++) {
		int r = mark_add(g, g->fan_fd, g->dir_fds[i], err);

		if (r < 0) {
			fanotify_mark(g->fan_fd, FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, AT_FDCWD, "/");
			return r;
		}
	}
	return 0;
}

void file_gate_counts(const struct file_gate *g, struct gate_counts *ret)
{
	gate_counts(&g->gate, ret);
}

void file_gate_free(struct file_gate *g)
{
	uint64_t one = 1;

	if (!g)
		return;
	gate_set_deadline(&g->gate, 0);
	if (g->running) {
		atomic_store(&g->stopping, true);
		(void)!write(g->wake_fd, &one, sizeof(one));
		pthread_join(g->thread, NULL);
	}
	closep(&g->fan_fd);
	closep(&g->wake_fd);
	closep(&g->timer_fd);
	queue_done(&g->queue);
	thread_calls_done(&g->calls);
	free(g->dir_fds);
	free(g);
}
