#include <errno.h>
#include <stdlib.h>
#include "hold/queue.h"

#define ROOM_FIRST 256

void queue_init(struct queue *q, size_t max)
{
	*q = (struct queue){.max = max};
}

void queue_done(struct queue *q)
{
	free(q->heap);
	*q = (struct queue){0};
}

static bool goes_before(const struct queue_entry *a, const struct queue_entry *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static int queue_grow(struct queue *q)
{
	size_t room = q->room ? q->room * 2 : ROOM_FIRST;
	struct queue_entry *heap = reallocarray(q->heap, room, sizeof(*heap));

	if (!heap)
		return -ENOMEM;
	q->heap = heap;
	q->room = room;
	return 0;
}

int queue_push(struct queue *q, uint64_t due_ns, void *item)
{
	struct queue_entry entry = {.due_ns = due_ns, .item = item};
	size_t i;

	if (q->max && q->count >= q->max)
		return -ENOBUFS;
	if (q->count == q->room) {
		int r = queue_grow(q);

		if (r < 0)
			return r;
	}
	entry.sequence = q->next_sequence++;
	for (i = q->count++; i > 0; i = (i - 1) / 2) {
		if (!goes_before(&entry, &q->heap[(i - 1) / 2]))
			break;
		q->heap[i] = q->heap[(i - 1) / 2];
	}
	q->heap[i] = entry;
	return 0;
}

const struct queue_entry *queue_head(const struct queue *q)
{
	return q->count ? &q->heap[0] : NULL;
}

bool queue_pop(struct queue *q, struct queue_entry *ret)
{
	struct queue_entry last;
	size_t i = 0;

	if (!q->count)
		return false;
	*ret = q->heap[0];
	last = q->heap[--q->count];
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= q->count)
			break;
		if (child + 1 < q->count && goes_before(&q->heap[child + 1], &q->heap[child]))
			child++;
		if (!goes_before(&q->heap[child], &last))
			break;
		q->heap[i] = q->heap[child];
		i = child;
	}
	if (q->count)
		q->heap[i] = last;
	return true;
}
