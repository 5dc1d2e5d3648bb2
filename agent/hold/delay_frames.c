#include "hold/delay_state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/clock.h"
#include "hold/segment.h"

#define READ_BATCH 64U
#define WRITE_RETRIES 20U
#define WRITE_RETRY_NS (200 * NS_PER_US)

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / NS_PER_US;
	unsigned bucket = us < 2 ? 0 : 63U - (unsigned)__builtin_clzll(us);

	return bucket < DELAY_BUCKETS ? bucket : DELAY_BUCKETS - 1;
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

bool delay_frames_read(struct delay_line *l, unsigned lane)
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

void delay_frames_release_due(struct delay_line *l)
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

void delay_frames_release_all(struct delay_line *l)
{
	struct queue_entry entry;

	while (queue_pop(&l->queue, &entry)) {
		struct frame *f = entry.item;

		l->held[f->lane]--;
		f->tries = WRITE_RETRIES;
		line_write(l, f, entry.due_ns);
	}
}
