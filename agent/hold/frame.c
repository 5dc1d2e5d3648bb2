#include <errno.h>
#include <stdlib.h>
#include "hold/frame.h"

#define CHUNK_SIZE (1UL << 20)
/* A chunk is left when the longest frame would not fit any more. */
#define CHUNK_USED_MIN (CHUNK_SIZE - FRAME_LENGTH_MAX - 128)

struct frame_chunk {
	struct frame_chunk *next_free, *next_of_all;
	size_t used, live;
	uint8_t bytes[] __attribute__((aligned(16)));
};

void frame_store_init(struct frame_store *s, uint64_t limit_bytes)
{
	*s = (struct frame_store){
		.limit_bytes = limit_bytes,
		.chunks_max = limit_bytes / CHUNK_USED_MIN + 2,
	};
}

void frame_store_done(struct frame_store *s)
{
	while (s->all) {
		struct frame_chunk *c = s->all;

		s->all = c->next_of_all;
		free(c);
	}
	*s = (struct frame_store){0};
}

static struct frame_chunk *chunk_take(struct frame_store *s)
{
	struct frame_chunk *c = s->free;

	if (c) {
		s->free = c->next_free;
		return c;
	}
	if (s->chunks >= s->chunks_max)
		return NULL;
	c = malloc(CHUNK_SIZE);
	if (!c)
		return NULL;
	*c = (struct frame_chunk){.next_of_all = s->all};
	s->all = c;
	s->chunks++;
	return c;
}

struct frame *frame_store_next(struct frame_store *s)
{
	struct frame_chunk *c = s->current;

	if (c && c->live == 0)
		c->used = 0;
	if (!c || sizeof(*c) + c->used + sizeof(struct frame) + FRAME_LENGTH_MAX > CHUNK_SIZE) {
		c = chunk_take(s);
		if (!c)
			return NULL;
		/* The chunk left behind comes back when its last frame is dropped. */
		s->current = c;
	}
	return (struct frame *)(c->bytes + c->used);
}

int frame_store_keep(struct frame_store *s, struct frame *f, size_t length)
{
	struct frame_chunk *c = s->current;
	size_t charge = length + FRAME_OVERHEAD;

	if (s->held_bytes && s->held_bytes + charge > s->limit_bytes)
		return -ENOBUFS;
	f->chunk = c;
	f->length = (uint32_t)length;
	f->references = 1;
	f->tries = 0;
	c->used += (sizeof(*f) + length + 15) & ~15UL;
	c->live++;
	s->held_bytes += charge;
	return 0;
}

void frame_store_drop(struct frame_store *s, struct frame *f)
{
	struct frame_chunk *c = f->chunk;

	if (--f->references)
		return;
	s->held_bytes -= f->length + FRAME_OVERHEAD;
	if (--c->live || c == s->current)
		return;
	c->used = 0;
	c->next_free = s->free;
	s->free = c;
}
