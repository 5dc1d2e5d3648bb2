/*
 * What is held until its time: a binary heap by due time. Items of one due time leave in the order
 * in which they came. Memory grows as needed up to the bound given; it shrinks only in queue_done().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_entry {
	uint64_t due_ns;
	uint64_t sequence;	/* set by queue_push() */
	void *item;		/* borrowed */
};

struct queue {
	struct queue_entry *heap;
	size_t count, room, max;
	uint64_t next_sequence;
};

/* max: entries at most; 0: no bound. */
void queue_init(struct queue *q, size_t max);
/* The items are the caller's. */
void queue_done(struct queue *q);
/* -ENOBUFS at the bound, -ENOMEM. */
int queue_push(struct queue *q, uint64_t due_ns, void *item);
/* The next to leave, or NULL. Valid until the next push or pop. */
const struct queue_entry *queue_head(const struct queue *q);
/* false when empty. */
bool queue_pop(struct queue *q, struct queue_entry *ret);
