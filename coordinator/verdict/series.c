#include "verdict/series.h"

#include <stdlib.h>

static int by_done(const void *a, const void *b)
{
	const struct attempt *x = *(const struct attempt *const *)a;
	const struct attempt *y = *(const struct attempt *const *)b;

	if (x->done_ns != y->done_ns)
		return x->done_ns < y->done_ns ? -1 : 1;
	return (x > y) - (x < y);
}

static uint64_t shorter(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

void series_init(struct series *s, const struct run_record *r, enum probe_kind kind)
{
	*s = (struct series){.slow_ns = r->slow_ns};
	s->items = calloc(r->n_attempts + 1, sizeof(struct attempt *));
	if (!s->items)
		abort();
	for (size_t i = 0; i < r->n_clients; i++) {
		const struct probe_client *c = &r->clients[i];

		if (c->kind != kind || c->way != WAY_CLIENTS)
			continue;
		s->fastest_ns = shorter(s->fastest_ns, c->interval_ns);
		if (c->fresh)
			s->fresh_ns = shorter(s->fresh_ns, c->interval_ns);
	}
	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];

		if (a->sent_ns > s->watched_until_ns)
			s->watched_until_ns = a->sent_ns;
		if (a->client < r->n_clients && r->clients[a->client].kind == kind &&
			r->clients[a->client].way == WAY_CLIENTS && a->done_ns >= a->sent_ns)
			s->items[s->n++] = a;
	}
	qsort(s->items, s->n, sizeof(struct attempt *), by_done);
}

void series_done(struct series *s)
{
	free(s->items);
	s->items = NULL;
	s->n = 0;
}

static bool is_slow(const struct series *s, const struct attempt *a)
{
	return s->slow_ns != 0 && a->done_ns - a->sent_ns > s->slow_ns;
}

static bool is_bad(const struct series *s, const struct attempt *a)
{
	return a->outcome != OUTCOME_OK || is_slow(s, a);
}

struct figure series_first_bad(const struct series *s, uint64_t since_ns)
{
	struct figure first = {0};

	for (size_t i = 0; i < s->n; i++) {
		const struct attempt *a = s->items[i];
		uint64_t at = a->done_ns;

		if (!is_bad(s, a) || a->done_ns < since_ns)
			continue;
		if (is_slow(s, a)) {
			/* It had been slow before: only its failure is news. */
			if (a->sent_ns + s->slow_ns >= since_ns)
				at = a->sent_ns + s->slow_ns;
			else if (a->outcome == OUTCOME_OK)
				continue;
		}
		if (!first.known || at < first.ns)
			first = (struct figure){true, at};
	}
	return first;
}

const struct attempt *series_first_ok(const struct series *s, uint64_t since_ns, uint32_t timeline)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct attempt *a = s->items[i];

		if (a->outcome == OUTCOME_OK && a->done_ns > since_ns &&
			(a->timeline == 0 || a->timeline >= timeline))
			return a;
	}
	return NULL;
}

/* Was one tried between from and to, and did it fail, stay open or take long? first: the first item
 * that was done after from. */
static bool tried_badly(const struct series *s, size_t first, uint64_t to_ns)
{
	for (size_t i = first; i < s->n; i++)
		if (is_bad(s, s->items[i]) && s->items[i]->sent_ns < to_ns)
			return true;
	return false;
}

static uint64_t threshold(const struct series *s)
{
	return s->slow_ns > 3 * s->fastest_ns ? s->slow_ns : 3 * s->fastest_ns;
}

size_t series_outages(const struct series *s, uint64_t since_ns, struct outage **ret)
{
	struct outage *list = NULL;
	uint64_t from = since_ns;
	size_t n = 0, capacity = 0, first = 0;

	while (first < s->n && s->items[first]->done_ns <= since_ns)
		first++;
	for (size_t i = first; i <= s->n; i++) {
		bool open = i == s->n;
		uint64_t to = open ? s->watched_until_ns : s->items[i]->done_ns;

		if (!open && s->items[i]->outcome != OUTCOME_OK)
			continue;
		if (to > from && to - from > threshold(s) && tried_badly(s, first, to)) {
			if (n == capacity) {
				capacity = capacity ? capacity * 2 : 8;
				list = reallocarray(list, capacity, sizeof(*list));
				if (!list)
					abort();
			}
			list[n++] = (struct outage){from, to, open};
		}
		from = to;
		first = i + 1;
	}
	*ret = list;
	return n;
}

uint64_t outages_sum(const struct outage *outages, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += outages[i].to_ns - outages[i].from_ns;
	return sum;
}

uint64_t series_pause(const struct series *s, uint64_t at_ns, uint64_t nominal_ns)
{
	uint64_t before = 0, after = UINT64_MAX;

	for (size_t i = 0; i < s->n; i++) {
		uint64_t sent = s->items[i]->sent_ns;

		if (sent < at_ns && sent > before)
			before = sent;
		if (sent >= at_ns && sent < after)
			after = sent;
	}
	if (before == 0 || after == UINT64_MAX || after - before < nominal_ns)
		return nominal_ns;
	return after - before;
}
