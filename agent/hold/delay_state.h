/* What the two halves of a delay line share: its thread (hold/delay_line.c), and what becomes of each frame
 * (hold/delay_frames.c). The functions here are the thread's own. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include "hold/delay_line.h"
#include "hold/frame.h"
#include "hold/queue.h"
#include "hold/shape.h"

#define DELAY_COUNTS (sizeof(struct delay_counts) / sizeof(uint64_t))

enum line_mode { LINE_HOLDS, LINE_OPEN, LINE_STOPS };

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
	_Atomic uint64_t published[DELAY_COUNTS];

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

/* Reads what is there, at most a batch, and does to each frame what the mode, the filter and the shape say.
 * false: there was nothing (left). */
bool delay_frames_read(struct delay_line *l, unsigned lane);
/* At most a batch of those whose time has come. */
void delay_frames_release_due(struct delay_line *l);
/* All that is held, now and in order; a frame that the TAP refuses is given up. */
void delay_frames_release_all(struct delay_line *l);
