#include "hold/delay_state.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include "core/clock.h"

/* The loop polls the TAPs first, then these. */
enum { POLL_WAKE, POLL_TIMER, POLL_MAX };

uint64_t delay_histogram_quantile(const uint64_t buckets[DELAY_BUCKETS], double share)
{
	uint64_t total = 0, below = 0;

	for (unsigned i = 0; i < DELAY_BUCKETS; i++)
		total += buckets[i];
	for (unsigned i = 0; total && i < DELAY_BUCKETS; i++) {
		below += buckets[i];
		if ((double)below >= share * (double)total)
			return (2ULL << i) * NS_PER_US;
	}
	return 0;
}

/* One writer: plain stores that a reader sees whole. */
static void counts_publish(struct delay_line *l)
{
	uint64_t values[DELAY_COUNTS];

	l->counts.held_bytes = l->store.held_bytes;
	memcpy(values, &l->counts, sizeof(values));
	for (size_t i = 0; i < DELAY_COUNTS; i++)
		atomic_store_explicit(&l->published[i], values[i], memory_order_relaxed);
}

void delay_line_counts(const struct delay_line *l, struct delay_counts *ret)
{
	uint64_t values[DELAY_COUNTS];

	for (size_t i = 0; i < DELAY_COUNTS; i++)
		values[i] = atomic_load_explicit(&l->published[i], memory_order_relaxed);
	memcpy(ret, values, sizeof(*ret));
}

bool delay_line_is_realtime(const struct delay_line *l)
{
	return atomic_load(&l->realtime);
}

static void line_set_timer(struct delay_line *l)
{
	const struct queue_entry *head = queue_head(&l->queue);
	uint64_t wanted = head ? head->due_ns : 0;
	struct itimerspec at = {
		.it_value = {(time_t)(wanted / NS_PER_S), (long)(wanted % NS_PER_S)},
	};

	/* Setting it also clears an expiry, so it is never read. */
	if (wanted == l->timer_ns)
		return;
	timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
	l->timer_ns = wanted;
}

/* Best effort. On a loaded node a fair share of the CPU means milliseconds late, real-time priority
 * tens of microseconds; the work is bounded by the traffic, and nothing spins. */
static bool thread_be_prompt(void)
{
	struct sched_param p = {.sched_priority = 1};

	pthread_setname_np(pthread_self(), "pgjolt-line");
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &p) == 0)
		return true;
	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20);
	return false;
}

static void line_prepare_poll(struct delay_line *l, struct pollfd *fds)
{
	for (unsigned i = 0; i < l->n_taps; i++)
		fds[i] = (struct pollfd){.fd = l->dead[i] ? -1 : l->taps[i], .events = POLLIN};
	fds[l->n_taps + POLL_WAKE] = (struct pollfd){.fd = l->wake_fd, .events = POLLIN};
	fds[l->n_taps + POLL_TIMER] = (struct pollfd){.fd = l->timer_fd, .events = POLLIN};
}

static void *line_thread(void *data)
{
	struct pollfd fds[DELAY_LINE_TAPS_MAX + POLL_MAX];
	struct delay_line *l = data;

	atomic_store(&l->realtime, thread_be_prompt());
	for (;;) {
		enum line_mode mode;
		uint64_t ignored;

		line_prepare_poll(l, fds);
		if (poll(fds, l->n_taps + POLL_MAX, -1) < 0 && errno != EINTR)
			break;
		if (fds[l->n_taps + POLL_WAKE].revents)
			(void)!read(l->wake_fd, &ignored, sizeof(ignored));
		mode = atomic_load_explicit(&l->mode, memory_order_acquire);
		if (mode != LINE_HOLDS)
			delay_frames_release_all(l);
		for (unsigned i = 0; i < l->n_taps; i++) {
			if (fds[i].revents)
				delay_frames_read(l, i);
			delay_frames_release_due(l);
		}
		if (mode == LINE_STOPS)
			break;
		line_set_timer(l);
		counts_publish(l);
	}
	/* What the BPF side had sent before it was switched off. */
	delay_frames_release_all(l);
	for (unsigned i = 0; i < l->n_taps; i++)
		for (unsigned batch = 0; batch < 256 && !l->dead[i] && delay_frames_read(l, i); batch++)
			;
	counts_publish(l);
	return NULL;
}

static void line_set_mode(struct delay_line *l, enum line_mode mode)
{
	uint64_t one = 1;

	atomic_store_explicit(&l->mode, mode, memory_order_release);
	(void)!write(l->wake_fd, &one, sizeof(one));
}

void delay_line_open_up(struct delay_line *l)
{
	line_set_mode(l, LINE_OPEN);
}

void delay_line_free(struct delay_line *l)
{
	if (!l)
		return;
	if (l->running) {
		line_set_mode(l, LINE_STOPS);
		pthread_join(l->thread, NULL);
	}
	for (unsigned i = 0; i < l->n_taps; i++)
		closep(&l->taps[i]);
	closep(&l->wake_fd);
	closep(&l->timer_fd);
	queue_done(&l->queue);
	frame_store_done(&l->store);
	free(l);
}
DEFINE_CLEANUP(struct delay_line, delay_line_free)

/* The agent's signals are its loop's: none may land here. */
static int line_start(struct delay_line *l, struct err **err)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&l->thread, NULL, line_thread, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_errno(err, -r, "start the delay line's thread");
	l->running = true;
	return 0;
}

static int line_take_taps(struct delay_line *l, int *tap_fds, unsigned n_taps, struct err **err)
{
	for (unsigned i = 0; i < n_taps; i++) {
		int flags;

		l->taps[l->n_taps++] = steal_fd(&tap_fds[i]);
		flags = fcntl(l->taps[i], F_GETFL);
		if (flags < 0 || fcntl(l->taps[i], F_SETFL, flags | O_NONBLOCK) < 0)
			return err_errno(err, -errno, "make a TAP's descriptor non-blocking");
		shape_init(&l->lanes[i], &l->shape, i);
	}
	return 0;
}

static void close_all(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		closep(&fds[i]);
		fds[i] = -1;
	}
}

int delay_line_new(const struct delay_shape *shape, const struct delay_filter *filter, int *tap_fds,
	unsigned n_taps, struct delay_line **ret, struct err **err)
{
	_cleanup_(delay_line_freep) struct delay_line *l = NULL;
	int r;

	if (n_taps > DELAY_LINE_TAPS_MAX) {
		close_all(tap_fds, n_taps);
		return err_set(err, -EINVAL, "%u directions to hold; at most %u are possible",
			n_taps, DELAY_LINE_TAPS_MAX);
	}
	l = calloc(1, sizeof(*l));
	if (!l) {
		close_all(tap_fds, n_taps);
		return err_errno(err, -ENOMEM, "make a delay line");
	}
	l->shape = *shape;
	if (filter)
		l->filter = *filter;
	l->timer_fd = -1;
	frame_store_init(&l->store, shape->limit_bytes);
	queue_init(&l->queue, 2 * (shape->limit_bytes / FRAME_OVERHEAD + 1));
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = line_take_taps(l, tap_fds, n_taps, err);
	if (r < 0) {
		close_all(tap_fds, n_taps);
		return r;
	}
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->wake_fd < 0 || l->timer_fd < 0)
		return err_errno(err, -errno, "make a delay line's descriptors");
	r = line_start(l, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(l);
	return 0;
}
