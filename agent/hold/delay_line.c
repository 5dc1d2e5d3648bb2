#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include "core/clock.h"
#include "hold/delay_line.h"
#include "hold/frame.h"
#include "hold/queue.h"
#include "hold/segment.h"
#include "hold/shape.h"

#define READ_BATCH 64U
#define WRITE_RETRIES 20U
#define WRITE_RETRY_NS (200 * NS_PER_US)
#define N_COUNTS (sizeof(struct delay_counts) / sizeof(uint64_t))

enum line_mode { LINE_HOLDS, LINE_OPEN, LINE_STOPS };

/* The loop polls the TAPs first, then these. */
enum { POLL_WAKE, POLL_TIMER, POLL_MAX };

struct delay_line {
	struct delay_shape shape;
	struct delay_filter filter;	/* judge NULL: none */
	int taps[DELAY_LINE_TAPS_MAX];
	unsigned n_taps;
	int wake_fd, timer_fd;
	pthread_t thread;
	bool running;
	_Atomic enum line_mode mode;
	atomic_bool realtime;
	_Atomic uint64_t published[N_COUNTS];

	/* The thread's own. */
	struct shape lanes[DELAY_LINE_TAPS_MAX];
	size_t held[DELAY_LINE_TAPS_MAX];	/* entries in the queue that keep their order */
	bool dead[DELAY_LINE_TAPS_MAX];
	struct frame_store store;
	struct queue queue;
	struct delay_counts counts;
	uint64_t timer_ns;
	uint8_t scratch[FRAME_LENGTH_MAX];
};

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	unsigned bucket = us < 2 ? 0 : 63U - (unsigned)__builtin_clzll(us);

	return bucket < DELAY_BUCKETS ? bucket : DELAY_BUCKETS - 1;
}

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
	uint64_t values[N_COUNTS];

	l->counts.held_bytes = l->store.held_bytes;
	memcpy(values, &l->counts, sizeof(values));
	for (size_t i = 0; i < N_COUNTS; i++)
		atomic_store_explicit(&l->published[i], values[i], memory_order_relaxed);
}

void delay_line_counts(const struct delay_line *l, struct delay_counts *ret)
{
	uint64_t values[N_COUNTS];

	for (size_t i = 0; i < N_COUNTS; i++)
		values[i] = atomic_load_explicit(&l->published[i], memory_order_relaxed);
	memcpy(ret, values, sizeof(*ret));
}

bool delay_line_is_realtime(const struct delay_line *l)
{
	return atomic_load(&l->realtime);
}

static void count_given(struct delay_line *l, const struct frame *f, uint64_t due_ns)
{
	struct delay_counts *c = &l->counts;
	uint64_t now = now_ns(), given = now - f->arrival_ns;
	uint64_t late = now > due_ns ? now - due_ns : 0;

	if (!c->released || given < c->delay_min_ns)
		c->delay_min_ns = given;
	if (given > c->delay_max_ns)
		c->delay_max_ns = given;
	if (late > c->error_max_ns)
		c->error_max_ns = late;
	c->delay_sum_ns += given;
	c->delay_buckets[bucket_of(given)]++;
	c->error_buckets[bucket_of(late)]++;
	c->released++;
}

static void line_write(struct delay_line *l, struct frame *f, uint64_t due_ns)
{
	ssize_t n = l->dead[f->lane] ? -1 : write(l->taps[f->lane], f->data, f->length);

	if (n >= 0) {
		count_given(l, f, due_ns);
	} else if (!l->dead[f->lane] && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) &&
		   f->tries < WRITE_RETRIES) {
		f->tries++;
		if (queue_push(&l->queue, now_ns() + WRITE_RETRY_NS, f) == 0) {
			l->held[f->lane]++;
			return;
		}
		l->counts.write_errors++;
	} else {
		l->counts.write_errors++;
	}
	frame_store_drop(&l->store, f);
}

/* Takes the frame's reference. */
static void line_hold(struct delay_line *l, struct frame *f, size_t wire_bytes)
{
	bool ahead;
	uint64_t due = shape_due_ns(&l->lanes[f->lane], f->arrival_ns, wire_bytes, &ahead);

	if (queue_push(&l->queue, due, f) < 0) {
		l->counts.overflowed++;
		frame_store_drop(&l->store, f);
		return;
	}
	if (ahead && l->held[f->lane])
		l->counts.reordered++;
	l->held[f->lane]++;
}

/* Packet number i of a kept frame. */
static void line_corrupt(struct delay_line *l, struct frame *f, const struct segments *s, size_t i)
{
	uint64_t pick = shape_pick(&l->lanes[f->lane], UINT64_MAX);
	bool done;

	if (l->shape.corrupt_mode == CORRUPT_PAYLOAD) {
		done = frame_alter_payload(f->data, f->length, s, i, pick);
	} else {
		done = frame_complete_checksum(f->data, f->length) &&
			frame_flip_bit(f->data, f->length, pick);
	}
	if (done)
		l->counts.corrupted++;
}

/* A kept frame into the queue, twice where the shape says so. */
static void line_accept(struct delay_line *l, struct frame *f, size_t wire_bytes, bool twice)
{
	if (twice) {
		f->references++;
		line_hold(l, f, wire_bytes);
		l->counts.duplicated++;
	}
	line_hold(l, f, wire_bytes);
	if (l->store.held_bytes > l->counts.held_bytes_peak)
		l->counts.held_bytes_peak = l->store.held_bytes;
}

/* What the shape does to the packets of one frame. */
struct packet_fate {
	bool lost, corrupt;
};

/* A GSO frame of which packets are lost or corrupt goes on as the packets that it would become. */
static void line_take_split(struct delay_line *l, const struct frame *whole, size_t length,
	const struct segments *s, const struct packet_fate *fates, bool twice)
{
	const struct segments one = {.count = 1};
	uint64_t arrival_ns = whole->arrival_ns;
	uint16_t lane = whole->lane;

	memcpy(l->scratch, whole->data, length);
	for (size_t i = 0; i < s->count; i++) {
		struct frame *f;
		ssize_t n;

		if (fates[i].lost)
			continue;
		f = frame_store_next(&l->store);
		n = f ? segment_copy(l->scratch, length, s, i, f->data, FRAME_LENGTH_MAX) : -ENOMEM;
		if (n < 0 || frame_store_keep(&l->store, f, (size_t)n) < 0) {
			l->counts.overflowed++;
			continue;
		}
		f->arrival_ns = arrival_ns;
		f->lane = lane;
		if (fates[i].corrupt)
			line_corrupt(l, f, &one, 0);
		line_accept(l, f, (size_t)n - FRAME_HEADER_SIZE, twice);
	}
}

/* A frame that was just read and is not kept yet. */
static void line_take(struct delay_line *l, struct frame *f, size_t length)
{
	static const size_t fates_max = 2048;
	struct shape *shape = &l->lanes[f->lane];
	struct packet_fate fates[2048];
	bool splits = l->shape.corrupt_mode == CORRUPT_BIT, twice;
	struct segments s;
	size_t hit = 0;

	segments_of(f->data, length, &s);
	l->counts.frames++;
	l->counts.bytes += length - FRAME_HEADER_SIZE;
	l->counts.packets += s.count;
	if (s.count > fates_max)
		s.count = 1;
	for (size_t i = 0; i < s.count; i++) {
		fates[i].lost = shape_loses(shape);
		fates[i].corrupt = shape_corrupts(shape) && !fates[i].lost;
		l->counts.lost += fates[i].lost;
		hit += fates[i].lost || (fates[i].corrupt && splits);
	}
	twice = shape_duplicates(shape);
	if (hit && s.count > 1) {
		line_take_split(l, f, length, &s, fates, twice);
		return;
	}
	if (fates[0].lost)
		return;
	if (frame_store_keep(&l->store, f, length) < 0) {
		l->counts.overflowed++;
		return;
	}
	for (size_t i = 0; i < s.count; i++)
		if (fates[i].corrupt)
			line_corrupt(l, f, &s, i);
	line_accept(l, f, s.wire_bytes, twice);
}

static void line_write_at_once(struct delay_line *l, unsigned lane, const uint8_t *data, size_t length)
{
	if (l->dead[lane] || write(l->taps[lane], data, length) < 0)
		l->counts.write_errors++;
}

/* A frame that was just read, where it is judged before anything is done to it. */
static void line_judge(struct delay_line *l, struct frame *f, size_t length)
{
	uint8_t answer[FRAME_ANSWER_MAX];
	enum frame_verdict verdict;
	struct segments s;
	size_t n = 0;

	verdict = l->filter.judge(l->filter.data, f->data, length, answer, &n);
	if (verdict == FRAME_SHAPE) {
		line_take(l, f, length);
		return;
	}
	segments_of(f->data, length, &s);
	l->counts.frames++;
	l->counts.bytes += length - FRAME_HEADER_SIZE;
	l->counts.packets += s.count;
	if (verdict == FRAME_PASS)
		line_write_at_once(l, f->lane, f->data, length);
	else if (verdict == FRAME_ANSWER)
		line_write_at_once(l, l->filter.answer_lanes[f->lane], answer, n);
}

/* Reads what is there, at most a batch. false: there was nothing (left). */
static bool line_read(struct delay_line *l, unsigned lane)
{
	enum line_mode mode = atomic_load_explicit(&l->mode, memory_order_acquire);

	for (unsigned i = 0; i < READ_BATCH; i++) {
		struct frame *f = frame_store_next(&l->store);
		ssize_t n = read(l->taps[lane], f ? f->data : l->scratch, FRAME_LENGTH_MAX);

		if (n < 0) {
			/* EBADFD: the interface went with its namespace. Not to be polled again. */
			l->dead[lane] = l->dead[lane] || (errno != EAGAIN && errno != EINTR);
			return false;
		}
		if ((size_t)n < FRAME_HEADER_SIZE + 14)
			continue;
		if (!f) {
			l->counts.frames++;
			l->counts.overflowed++;
			continue;
		}
		f->arrival_ns = now_ns();
		f->lane = (uint16_t)lane;
		if (mode != LINE_HOLDS)
			line_write_at_once(l, lane, f->data, (size_t)n);
		else if (l->filter.judge)
			line_judge(l, f, (size_t)n);
		else
			line_take(l, f, (size_t)n);
	}
	return true;
}

static void line_release_due(struct delay_line *l)
{
	const struct queue_entry *head;
	uint64_t now = now_ns();

	for (unsigned i = 0; i < READ_BATCH && (head = queue_head(&l->queue)); i++) {
		struct queue_entry entry;
		struct frame *f;

		if (head->due_ns > now && head->due_ns > (now = now_ns()))
			return;
		queue_pop(&l->queue, &entry);
		f = entry.item;
		l->held[f->lane]--;
		line_write(l, f, entry.due_ns);
	}
}

/* All that is held, now and in order; a frame that the TAP refuses is given up. */
static void line_release_all(struct delay_line *l)
{
	struct queue_entry entry;

	while (queue_pop(&l->queue, &entry)) {
		struct frame *f = entry.item;

		l->held[f->lane]--;
		f->tries = WRITE_RETRIES;
		line_write(l, f, entry.due_ns);
	}
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
			line_release_all(l);
		for (unsigned i = 0; i < l->n_taps; i++) {
			if (fds[i].revents)
				line_read(l, i);
			line_release_due(l);
		}
		if (mode == LINE_STOPS)
			break;
		line_set_timer(l);
		counts_publish(l);
	}
	/* What the BPF side had sent before it was switched off. */
	line_release_all(l);
	for (unsigned i = 0; i < l->n_taps; i++)
		for (unsigned batch = 0; batch < 256 && !l->dead[i] && line_read(l, i); batch++)
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
