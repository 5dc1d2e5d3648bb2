/*
 * The choices of a delay line: when a frame is due, whether it is lost, doubled, let through ahead
 * of others or damaged. Pure: no clock, no I/O; the same seed and the same calls give the same
 * choices. Each kind of choice has a random stream of its own, so that adding loss to a drill does
 * not change its delays.
 *
 * Correlation: successive choices are a Gaussian AR(1) series mapped back through the normal
 * distribution, so the share and the distribution asked for are kept whatever the correlation
 * (netem's recursion, which averages uniforms, does not keep them).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "hold/delay_line.h"

struct random_stream {
	uint64_t state;
	double last;		/* the AR(1) series; unused without correlation */
	bool started;
};

/* The choices of one direction of one interface. */
struct shape {
	const struct delay_shape *asked;	/* borrowed */
	struct random_stream delay, loss, duplicate, reorder, corrupt;
	bool bad;			/* the Gilbert-Elliott chain's state */
	uint64_t line_free_ns;		/* rate: when all that was accepted has left the link */
	uint64_t last_due_ns;		/* of the frames that keep their order */
};

/* lane: number of the direction; each has streams of its own. */
void shape_init(struct shape *s, const struct delay_shape *asked, unsigned lane);

/* Once a packet on the wire. */
bool shape_loses(struct shape *s);
bool shape_corrupts(struct shape *s);
/* Once a frame. */
bool shape_duplicates(struct shape *s);
/* A number below n (n > 0), of the corrupt stream: the bit to flip. */
uint64_t shape_pick(struct shape *s, uint64_t n);

/* The next delay of the distribution, never below 0. uniform: delay +- jitter; normal: standard
 * deviation jitter; pareto: shape 3 with mean delay and standard deviation jitter, at most 50
 * jitters beyond. */
uint64_t shape_delay_ns(struct shape *s);

/*
 * When a frame that came at arrival_ns leaves. First the link: it is busy for wire_bytes * 8 / rate,
 * `burst` bytes ahead of which pass at once. Then the delay. A frame never leaves before its
 * predecessor, except that the share `reorder` of the frames skips the delay (*ret_ahead true).
 */
uint64_t shape_due_ns(struct shape *s, uint64_t arrival_ns, uint64_t wire_bytes, bool *ret_ahead);
