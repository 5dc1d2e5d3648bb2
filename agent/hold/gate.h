/*
 * What the two gates have in common: what happens to a call that matches, who matches, and the
 * counts. A gate is a data plane: a thread of its own that shares only atomics with the loop.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/catalogue/disk_params.h"
#include "hold/delay_line.h"
#include "hold/shape.h"

/* What is done to a call. */
struct gate_effect {
	struct delay_shape delay;	/* delay, jitter, distribution, seed; loss_ppm: the share hit */
	int code;			/* errno to fail with instead, 0: none */
	uint64_t after;			/* so many matching calls pass first */
	_Atomic uint64_t *matched;	/* counts them for all gates of a fault; NULL without after */
};

/* Who and what. The calls come from the gate's thread alone, and may touch nothing of the volume. */
struct gate_filter {
	void *data;
	unsigned operations;		/* bits of enum disk_operation */
	/* A file by its absolute path as its own mount namespace has it. */
	bool (*path)(void *data, const char *path, enum disk_class *ret);
	/* A thread of the instance, by its id here. */
	bool (*process)(void *data, pid_t tid);
	/* Of the file gate: a read or write that matches, before it is answered. NULL: nobody asks. */
	void (*taken)(void *data, pid_t tid);
};

/* Each member is a uint64_t: they are published one by one. */
struct gate_counts {
	uint64_t seen;			/* calls that came to the gate */
	uint64_t matched;		/* of the operations, paths and processes asked for */
	uint64_t delayed, failed;
	uint64_t bytes;			/* of reads and writes that were hit; the file gate knows pages */
	uint64_t operations[DISK_OPERATION_MAX];	/* hit, by operation where known */
	uint64_t classes[DISK_CLASS_MAX];		/* hit, by kind of file */
	uint64_t held, held_peak;
	uint64_t delay_min_ns, delay_max_ns, delay_sum_ns;	/* really given */
	uint64_t error_max_ns;
	uint64_t error_buckets[DELAY_BUCKETS];		/* given minus asked */
	uint64_t passed_max_ns, passed_sum_ns;		/* of calls let through at once: the time at the gate */
	uint64_t lost;			/* could not be held for lack of memory: passed */
};
#define GATE_COUNTS (sizeof(struct gate_counts) / sizeof(uint64_t))

/* The choices and counts of one gate. */
struct gate {
	struct gate_effect effect;
	struct shape shape;
	struct gate_counts counts;		/* the thread's own */
	_Atomic uint64_t published[GATE_COUNTS];
	_Atomic uint64_t until_boot_ns;		/* 0: not fired, or over */
};

void gate_init(struct gate *g, const struct gate_effect *effect);
/* Fires, or with 0 ends: anything that is held is to go at once. */
void gate_set_deadline(struct gate *g, uint64_t until_boot_ns);
bool gate_is_open(const struct gate *g);

enum gate_verdict { GATE_PASS, GATE_HOLD, GATE_FAIL };

/* Of a call that matches: counts it and chooses. *ret_delay_ns with GATE_HOLD. */
enum gate_verdict gate_choose(struct gate *g, uint64_t *ret_delay_ns);
/* A call that was chosen; operation or class may be _MAX where not known. */
void gate_count_hit(struct gate *g, enum gate_verdict verdict, enum disk_operation operation,
	enum disk_class class, uint64_t bytes);
/* One that was held goes, given_ns after it came, late_ns after it was due. */
void gate_count_given(struct gate *g, uint64_t given_ns, uint64_t late_ns);
/* One that came and goes at once, after so much time here. */
void gate_count_passed(struct gate *g, uint64_t took_ns);
void gate_publish(struct gate *g);
void gate_counts(const struct gate *g, struct gate_counts *ret);

/* A gate's thread: its name, as prompt as this node lets it be. */
void gate_thread_be_prompt(const char *name);
