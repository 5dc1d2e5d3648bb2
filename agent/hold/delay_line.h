/*
 * The delay line: frames taken out of an interface by a tcx program that redirects them to a TAP,
 * held in user space until their time, and written back. A data plane: it runs in a thread of its
 * own and shares with the loop only atomics and an eventfd. It never waits on anything in the
 * namespace that it holds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

enum delay_distribution { DELAY_UNIFORM, DELAY_NORMAL, DELAY_PARETO, DELAY_DISTRIBUTION_MAX };
enum loss_model { LOSS_RANDOM, LOSS_GILBERT_ELLIOTT, LOSS_MODEL_MAX };

/* One bit anywhere, under the old checksum; or a byte of TCP's payload, behind a right one. */
enum corrupt_mode { CORRUPT_BIT, CORRUPT_PAYLOAD, CORRUPT_MODE_MAX };

struct delay_shape {
	uint64_t delay_ns, jitter_ns;
	uint32_t correlation_ppm;
	enum delay_distribution distribution;
	enum loss_model loss_model;
	uint32_t loss_ppm, loss_correlation_ppm;
	uint32_t ge_p_ppm, ge_r_ppm, ge_loss_bad_ppm, ge_loss_good_ppm;
	uint32_t duplicate_ppm, reorder_ppm, corrupt_ppm;
	enum corrupt_mode corrupt_mode;
	uint64_t rate_bits_per_s;	/* 0: none */
	uint64_t burst_bytes;
	uint64_t limit_bytes;		/* of frames held; more are dropped and counted */
	uint64_t seed;			/* of the random numbers: the same seed, the same choices */
};

/* Bucket i of a histogram: [2^i, 2^(i+1)) us; bucket 0: below 2 us; the last one: all beyond. */
#define DELAY_BUCKETS 32

struct delay_counts {
	uint64_t frames, bytes;			/* taken in; a frame may be a whole GSO packet */
	uint64_t packets;			/* that these frames are on the wire */
	uint64_t released;			/* frames written back, duplicates included */
	uint64_t lost, corrupted;		/* packets */
	uint64_t duplicated, reordered;		/* frames */
	uint64_t overflowed;			/* frames dropped for the limit */
	uint64_t write_errors;			/* frames that the TAP would not take back */
	uint64_t held_bytes, held_bytes_peak;
	uint64_t delay_min_ns, delay_max_ns, delay_sum_ns;	/* really given, of those released */
	uint64_t delay_buckets[DELAY_BUCKETS];
	uint64_t error_max_ns;
	uint64_t error_buckets[DELAY_BUCKETS];	/* given minus asked */
};

#define DELAY_LINE_TAPS_MAX 16

/* What becomes of one frame. */
enum frame_verdict {
	FRAME_SHAPE,	/* as the shape says */
	FRAME_PASS,	/* on its way at once, past what is held */
	FRAME_DROP,
	FRAME_ANSWER,	/* dropped, and an answer goes the other way at once */
};

#define FRAME_ANSWER_MAX 1024U

/* Asked for each frame while the line holds, in the line's own thread: it must not block. */
struct delay_filter {
	/* answer: FRAME_ANSWER_MAX bytes, for a whole frame with its virtio header. */
	enum frame_verdict (*judge)(void *data, const uint8_t *frame, size_t length, uint8_t *answer,
		size_t *ret_length);
	void *data;					/* outlives the line */
	uint8_t answer_lanes[DELAY_LINE_TAPS_MAX];	/* by lane: the TAP that takes its answers */
};

struct delay_line;

/*
 * taps: n descriptors from link_tap_open(), one a direction and interface; taken over (each becomes
 * -1) also on failure. The thread runs from here; frames come only once the BPF side redirects.
 * Lost, corrupt: chosen for each packet on the wire; a GSO frame that they hit is split in software,
 * but a payload is altered where it is.
 * filter: copied; NULL: every frame is shaped. Only shaped frames count beyond frames, packets, bytes.
 * Duplicate, reorder: chosen for each frame. Both ends of the limit: see hold/frame.h.
 */
int delay_line_new(const struct delay_shape *shape, const struct delay_filter *filter, int *tap_fds,
	unsigned n_taps, struct delay_line **ret, struct err **err);
/* From now on nothing is held: what is held, and what still comes, is written at once, in order. */
void delay_line_open_up(struct delay_line *l);
/* Opens up, writes all that is there, stops the thread and closes the taps. Takes NULL. */
void delay_line_free(struct delay_line *l);
/* Does its thread run with real-time priority (SCHED_FIFO)? Without it (CAP_SYS_NICE) the delays are
 * as exact as the load of the node lets them be. */
bool delay_line_is_realtime(const struct delay_line *l);
/* Lock-free snapshot; the counts of one frame may be seen half. */
void delay_line_counts(const struct delay_line *l, struct delay_counts *ret);
/* The upper bound, in ns, below which that share of a histogram lies (a power of two of us). */
uint64_t delay_histogram_quantile(const uint64_t buckets[DELAY_BUCKETS], double share);
