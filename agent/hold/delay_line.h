/*
 * The delay line: frames taken out of an interface by a tcx program that redirects them to a TAP,
 * held in user space until their time, and written back. A data plane: it runs in a thread of its
 * own and shares with the loop only atomics and an eventfd. It never waits on anything in the
 * namespace that it holds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/err.h"

enum delay_distribution { DELAY_UNIFORM, DELAY_NORMAL, DELAY_PARETO, DELAY_DISTRIBUTION_MAX };
enum loss_model { LOSS_RANDOM, LOSS_GILBERT_ELLIOTT, LOSS_MODEL_MAX };

struct delay_shape {
	uint64_t delay_ns, jitter_ns;
	uint32_t correlation_ppm;
	enum delay_distribution distribution;
	enum loss_model loss_model;
	uint32_t loss_ppm, loss_correlation_ppm;
	uint32_t ge_p_ppm, ge_r_ppm, ge_loss_bad_ppm, ge_loss_good_ppm;
	uint32_t duplicate_ppm, reorder_ppm, corrupt_ppm;
	uint64_t rate_bits_per_s;	/* 0: none */
	uint64_t burst_bytes;
	uint64_t limit_bytes;		/* of frames held; more are dropped and counted */
	uint64_t seed;			/* of the random numbers: the same seed, the same choices */
};

#define DELAY_BUCKETS 32	/* bucket i: error of [2^i, 2^(i+1)) us, bucket 0 below 2 us */

struct delay_counts {
	uint64_t frames, bytes;			/* taken in */
	uint64_t released, lost, duplicated, reordered, corrupted;
	uint64_t overflowed;			/* dropped for the limit */
	uint64_t write_errors;
	uint64_t held_bytes, held_bytes_peak;
	uint64_t delay_min_ns, delay_max_ns, delay_sum_ns;	/* really given */
	uint64_t error_buckets[DELAY_BUCKETS];	/* given minus asked */
};

struct delay_line;

/* taps: n descriptors from link_tap_open(), one a direction and interface; taken over. The thread
 * runs from here; frames come only once the BPF side redirects. */
int delay_line_new(const struct delay_shape *shape, int *tap_fds, unsigned n_taps,
	struct delay_line **ret, struct err **err);
/* Stops the thread; drop: what is held is dropped, else written at once. Closes the taps. */
void delay_line_free(struct delay_line *l);
/* Lock-free snapshot. */
void delay_line_counts(const struct delay_line *l, struct delay_counts *ret);
