/* T8: the cluster's state is put together from the last observation of each instance. */
#include <stdlib.h>

#include "core/clock.h"
#include "verdict/milestones.h"

/* Good for this long counts, even if it was lost again later. */
#define KEPT_NS	 NS_PER_S
/* What was seen longer ago says nothing of now. */
#define STALE_NS (2 * NS_PER_S)

struct sweep {
	const struct run_record *record;
	struct observation *last;	/* by instance; at_ns 0: none yet */
	uint64_t floor_ns;		/* T8 is not before this; UINT64_MAX: never */
	uint64_t good_since_ns;		/* 0: it is not */
	bool was_lost;
	struct figure found;
};

static bool replica_is_good(const struct sweep *s, const struct observation *o,
	const struct observation *primary)
{
	if (!o->streaming || (o->timeline && primary->timeline && o->timeline != primary->timeline))
		return false;
	return primary->lsn <= o->lsn || primary->lsn - o->lsn <= s->record->lag_limit_bytes;
}

static bool is_good(const struct sweep *s, uint64_t now)
{
	const struct observation *primary = NULL;

	for (size_t i = 0; i < s->record->n_instances; i++) {
		const struct observation *o = &s->last[i];

		if (!o->reachable || now - o->at_ns > STALE_NS || (!o->in_recovery && primary))
			return false;
		if (!o->in_recovery)
			primary = o;
	}
	for (size_t i = 0; primary && i < s->record->n_instances; i++)
		if (&s->last[i] != primary && !replica_is_good(s, &s->last[i], primary))
			return false;
	return primary != NULL;
}

/* A good time ended, or the record did. */
static void end_good(struct sweep *s, uint64_t now, bool record_ended)
{
	uint64_t from = s->good_since_ns > s->floor_ns ? s->good_since_ns : s->floor_ns;

	if (s->good_since_ns && !s->found.known && from <= now &&
		(record_ended || now - from >= KEPT_NS))
		s->found = (struct figure){true, from};
	s->good_since_ns = 0;
}

static int by_time(const void *a, const void *b)
{
	const struct observation *x = *(const struct observation *const *)a;
	const struct observation *y = *(const struct observation *const *)b;

	if (x->at_ns != y->at_ns)
		return x->at_ns < y->at_ns ? -1 : 1;
	return (x > y) - (x < y);
}

static const struct observation **in_order(const struct run_record *r, size_t *ret_count)
{
	const struct observation **list = calloc(r->n_observations + 1, sizeof(*list));
	size_t n = 0;

	if (!list)
		abort();
	for (size_t i = 0; i < r->n_observations; i++)
		if (r->observations[i].instance < r->n_instances && r->observations[i].at_ns)
			list[n++] = &r->observations[i];
	qsort(list, n, sizeof(*list), by_time);
	*ret_count = n;
	return list;
}

/* After every fault's end, and after the writes are back. */
static uint64_t find_floor(const struct run_record *r, const struct verdict *v)
{
	uint64_t floor = v->milestones[T0].ns;

	for (size_t i = 0; i < r->n_faults; i++) {
		const struct fault_run *f = &r->faults[i];

		if (f->fired_ns && !f->reverted_ns)
			return UINT64_MAX;
		if (f->fired_ns && f->reverted_ns > floor)
			floor = f->reverted_ns;
	}
	if (v->n_write_outages && !v->milestones[T5].known)
		return UINT64_MAX;
	if (v->milestones[T5].known && v->milestones[T5].ns > floor)
		floor = v->milestones[T5].ns;
	return floor;
}

void redundancy_compute(const struct run_record *r, struct verdict *v)
{
	struct sweep s = {.record = r, .floor_ns = find_floor(r, v)};
	const struct observation **list;
	uint64_t now = 0;
	size_t n;

	list = in_order(r, &n);
	s.last = calloc(r->n_instances + 1, sizeof(*s.last));
	if (!s.last)
		abort();
	for (size_t i = 0; i < n; i++) {
		now = list[i]->at_ns;
		s.last[list[i]->instance] = *list[i];
		if (is_good(&s, now)) {
			s.good_since_ns = s.good_since_ns ? s.good_since_ns : now;
		} else {
			end_good(&s, now, false);
			s.was_lost = s.was_lost || now >= v->milestones[T0].ns;
		}
		v->redundancy_seen = v->redundancy_seen || now >= v->milestones[T0].ns;
	}
	end_good(&s, now, true);
	v->redundancy_lost = s.was_lost;
	if (s.was_lost && s.found.known)
		v->milestones[T8] = s.found;
	free(s.last);
	free(list);
}
