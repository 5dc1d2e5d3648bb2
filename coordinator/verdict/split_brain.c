/*
 * An instance is known to be in a state only between two polls (or acknowledged writes) that agree: it was so
 * at the latest when the first answer came, and at the earliest when the last question was sent, which is
 * after the answer before. So a span goes from the first answer to the last but one, and never claims an
 * overlap that was not there. What is stale or unreachable says nothing.
 */
#include "verdict/split_brain.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

struct span {
	uint64_t from_ns, to_ns;
	unsigned instance;
};

struct spans {
	struct span *items;
	size_t n, capacity;
};

/* One instance's state as it is followed through the record. */
struct state {
	bool on;
	uint32_t timeline;
	uint64_t first_ns, sure_ns, last_ns;	/* sure: known to have been on until then */
};

static void add_span(struct spans *s, unsigned instance, uint64_t from, uint64_t to)
{
	if (to <= from)
		return;
	if (s->n == s->capacity) {
		s->capacity = s->capacity ? s->capacity * 2 : 64;
		s->items = reallocarray(s->items, s->capacity, sizeof(*s->items));
		if (!s->items)
			abort();
	}
	s->items[s->n++] = (struct span){from, to, instance};
}

static void state_end(struct state *t, struct spans *s, unsigned instance)
{
	if (t->on)
		add_span(s, instance, t->first_ns, t->sure_ns);
	t->on = false;
}

/* Seen on: asked at asked_ns or later, answered at at_ns. */
static void state_on(struct state *t, struct spans *s, unsigned instance, uint32_t timeline,
	uint64_t asked_ns, uint64_t at_ns, uint64_t gap_max)
{
	if (t->on && (t->timeline != timeline || at_ns - t->last_ns > gap_max))
		state_end(t, s, instance);
	if (!t->on) {
		*t = (struct state){true, timeline, at_ns, at_ns, at_ns};
		return;
	}
	if (asked_ns > t->sure_ns)
		t->sure_ns = asked_ns;
	t->last_ns = at_ns;
}

static uint64_t gap_limit(const struct run_record *r)
{
	uint64_t polls = 10 * r->poll_interval_ns;

	return polls > NS_PER_S / 2 ? polls : NS_PER_S / 2;
}

static struct state *states_new(const struct run_record *r)
{
	struct state *states = calloc(r->n_instances + 1, sizeof(*states));

	if (!states)
		abort();
	return states;
}

static void states_free(struct state *states, const struct run_record *r, struct spans *s)
{
	for (size_t i = 0; i < r->n_instances; i++)
		state_end(&states[i], s, (unsigned)i);
	free(states);
}

static void from_polls(const struct run_record *r, bool writable, struct spans *s)
{
	struct state *states = states_new(r);
	uint64_t gap = gap_limit(r);

	for (size_t i = 0; i < r->n_observations; i++) {
		const struct observation *o = &r->observations[i];
		struct state *t;

		if (o->instance >= r->n_instances)
			continue;
		t = &states[o->instance];
		if (o->reachable && !o->in_recovery && !(writable && o->read_only) &&
			(!t->on || o->at_ns >= t->last_ns))
			state_on(t, s, o->instance, o->timeline, t->on ? t->last_ns : o->at_ns,
				o->at_ns, gap);
		else
			state_end(t, s, o->instance);
	}
	states_free(states, r, s);
}

static bool is_write(const struct run_record *r, const struct attempt *a)
{
	return a->client < r->n_clients && r->clients[a->client].kind == PROBE_WRITER &&
		a->instance >= 0 && (size_t)a->instance < r->n_instances && a->done_ns >= a->sent_ns;
}

/* Acknowledged writes show that an instance takes them, between the first and the last. */
static void from_writes(const struct run_record *r, struct spans *s)
{
	struct state *states = states_new(r);
	uint64_t gap = gap_limit(r);

	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];
		struct state *t;

		if (!is_write(r, a))
			continue;
		t = &states[a->instance];
		if (a->outcome == OUTCOME_OK && (!t->on || a->done_ns >= t->last_ns))
			state_on(t, s, (unsigned)a->instance, a->timeline, a->sent_ns, a->done_ns, gap);
		else if (a->outcome != OUTCOME_UNKNOWN)
			state_end(t, s, (unsigned)a->instance);
	}
	states_free(states, r, s);
}

struct edge {
	uint64_t at_ns;
	unsigned instance;
	int step;
};

static int by_time(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	if (x->at_ns != y->at_ns)
		return x->at_ns < y->at_ns ? -1 : 1;
	return x->step - y->step;
}

/* How long two or more instances had a span at once. */
static uint64_t overlap(const struct run_record *r, const struct spans *s)
{
	struct edge *edges = calloc(2 * s->n + 1, sizeof(*edges));
	unsigned *depth = calloc(r->n_instances + 1, sizeof(*depth));
	uint64_t sum = 0;
	size_t on = 0;

	if (!edges || !depth)
		abort();
	for (size_t i = 0; i < s->n; i++) {
		edges[2 * i] = (struct edge){s->items[i].from_ns, s->items[i].instance, 1};
		edges[2 * i + 1] = (struct edge){s->items[i].to_ns, s->items[i].instance, -1};
	}
	qsort(edges, 2 * s->n, sizeof(*edges), by_time);
	for (size_t i = 0; i < 2 * s->n; i++) {
		unsigned *d = &depth[edges[i].instance];

		if (i > 0 && on > 1)
			sum += edges[i].at_ns - edges[i - 1].at_ns;
		if (edges[i].step > 0)
			on += (*d)++ == 0;
		else
			on -= --(*d) == 0;
	}
	free(edges);
	free(depth);
	return sum;
}

/* Writes acknowledged on a timeline after a newer one had acknowledged some. */
static uint64_t count_superseded(const struct run_record *r)
{
	uint64_t since = 0, count = 0;	/* when the newest timeline so far acknowledged first */
	uint32_t newest = 0;

	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];

		if (a->outcome != OUTCOME_OK || a->timeline == 0 || a->client >= r->n_clients ||
			r->clients[a->client].kind != PROBE_WRITER)
			continue;
		if (a->timeline > newest) {
			newest = a->timeline;
			since = a->done_ns;
		} else if (a->timeline < newest && a->sent_ns > since) {
			/* Sent before, it may have been committed before and only told late. */
			count++;
		}
	}
	return count;
}

void split_brain_compute(const struct run_record *r, struct verdict *v)
{
	struct spans claimed = {0}, writable = {0};

	from_polls(r, false, &claimed);
	from_polls(r, true, &writable);
	from_writes(r, &writable);
	v->dual_claimed_ns = overlap(r, &claimed);
	v->dual_writable_ns = overlap(r, &writable);
	v->superseded_acks = count_superseded(r);
	free(claimed.items);
	free(writable.items);
	v->split_brain = v->superseded_acks ? SPLIT_ACKNOWLEDGED :
			 v->dual_writable_ns ? SPLIT_WRITABLE :
			 v->dual_claimed_ns ? SPLIT_CLAIMED : SPLIT_NONE;
}
