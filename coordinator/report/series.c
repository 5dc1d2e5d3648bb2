/* Too many attempts to print each: sums of a time for the chart, and spans of the instances' states. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "report/report.h"

#define BUCKET_MS   100
/* A longer run has longer buckets. */
#define BUCKETS_MAX 3000
#define SPANS_MAX   2000

struct buckets {
	uint64_t start_ns, length_ns;
	size_t n;
};

struct sample {
	size_t bucket;
	enum outcome outcome;
	uint64_t latency_ns;
};

static struct buckets choose_buckets(const struct run_record *r)
{
	struct buckets b = {.start_ns = r->started_ns, .length_ns = BUCKET_MS * NS_PER_MS};
	uint64_t end = r->started_ns;

	for (size_t i = 0; i < r->n_attempts; i++)
		if (r->attempts[i].done_ns > end)
			end = r->attempts[i].done_ns;
	if ((end - b.start_ns) / b.length_ns >= BUCKETS_MAX)
		b.length_ns *= (end - b.start_ns) / b.length_ns / BUCKETS_MAX + 1;
	b.n = end > b.start_ns ? (size_t)((end - b.start_ns) / b.length_ns) + 1 : 0;
	return b;
}

static int by_bucket(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;

	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	if (x->outcome != y->outcome)
		return x->outcome < y->outcome ? -1 : 1;
	return (x->latency_ns > y->latency_ns) - (x->latency_ns < y->latency_ns);
}

static size_t gather(const struct run_record *r, const struct buckets *b, uint32_t client,
	struct sample *samples)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct attempt *a = &r->attempts[i];

		if (a->client != client || a->done_ns < b->start_ns || a->done_ns < a->sent_ns ||
			a->outcome >= OUTCOME_MAX)
			continue;
		samples[n++] = (struct sample){
			.bucket = (size_t)((a->done_ns - b->start_ns) / b->length_ns),
			.outcome = a->outcome,
			.latency_ns = a->done_ns - a->sent_ns,
		};
	}
	qsort(samples, n, sizeof(*samples), by_bucket);
	return n;
}

static void append_number(cJSON *array, double value)
{
	json_append(array, cJSON_CreateNumber(value));
}

static void append_ms(cJSON *array, bool known, uint64_t ns)
{
	json_append(array, known ? cJSON_CreateNumber((double)(ns / 1000) / 1000.0) :
				   cJSON_CreateNull());
}

/* Samples are sorted: those of a bucket stand together, the acknowledged first and by latency. */
static void add_columns(cJSON *o, const struct buckets *b, const struct sample *samples, size_t n)
{
	cJSON *counts[OUTCOME_MAX] = {json_array(), json_array(), json_array()};
	cJSON *p50 = json_array(), *max = json_array();
	size_t k = 0;

	for (size_t i = 0; i < b->n; i++) {
		size_t count[OUTCOME_MAX] = {0}, first = k;

		for (; k < n && samples[k].bucket == i; k++)
			count[samples[k].outcome]++;
		for (size_t c = 0; c < OUTCOME_MAX; c++)
			append_number(counts[c], (double)count[c]);
		append_ms(p50, count[OUTCOME_OK],
			count[OUTCOME_OK] ? samples[first + count[OUTCOME_OK] / 2].latency_ns : 0);
		append_ms(max, count[OUTCOME_OK],
			count[OUTCOME_OK] ? samples[first + count[OUTCOME_OK] - 1].latency_ns : 0);
	}
	json_add_item(o, "ok", counts[OUTCOME_OK]);
	json_add_item(o, "failed", counts[OUTCOME_FAIL]);
	json_add_item(o, "unknown", counts[OUTCOME_UNKNOWN]);
	json_add_item(o, "p50_ms", p50);
	json_add_item(o, "max_ms", max);
}

cJSON *report_series(const struct run_record *r)
{
	struct buckets b = choose_buckets(r);
	struct sample *samples = calloc(r->n_attempts + 1, sizeof(*samples));
	cJSON *o = json_object(), *list = json_array();

	if (!samples)
		abort();
	for (uint32_t c = 0; c < r->n_clients; c++) {
		cJSON *item = json_object();

		json_add_string(item, "client", r->clients[c].name);
		add_columns(item, &b, samples, gather(r, &b, c, samples));
		json_append(list, item);
	}
	free(samples);
	json_add_ms(o, "bucket_ms", b.length_ns);
	json_add_uint(o, "buckets", b.n);
	json_add_item(o, "clients", list);
	return o;
}

static const char *state_word(const struct observation *o)
{
	if (!o->reachable)
		return "unreachable";
	if (!o->in_recovery)
		return o->read_only ? "read-only" : "primary";
	return o->streaming ? "streaming" : "replica";
}

static double at_ms(const struct run_record *r, uint64_t ns)
{
	return (double)((int64_t)(ns - r->started_ns) / 1000) / 1000.0;
}

static cJSON *spans_of(const struct run_record *r, size_t instance)
{
	const struct observation *first = NULL, *last = NULL;
	cJSON *spans = json_array();
	size_t n = 0;

	for (size_t i = 0; i <= r->n_observations && n < SPANS_MAX; i++) {
		const struct observation *o = i < r->n_observations ? &r->observations[i] : NULL;

		if (o && o->instance != instance)
			continue;
		if (first && (!o || strcmp(state_word(o), state_word(first)) ||
			o->timeline != first->timeline)) {
			cJSON *span = json_object();

			json_add_double(span, "from_ms", at_ms(r, first->at_ns));
			json_add_double(span, "to_ms", at_ms(r, o ? o->at_ns : last->at_ns));
			json_add_string(span, "state", state_word(first));
			json_add_uint(span, "timeline", first->timeline);
			json_append(spans, span);
			n++;
			first = NULL;
		}
		if (!first)
			first = o;
		last = o;
	}
	return spans;
}

cJSON *report_states(const struct run_record *r)
{
	cJSON *list = json_array();

	for (size_t i = 0; i < r->n_instances; i++) {
		cJSON *o = json_object();

		json_add_string(o, "instance", r->instances[i].name);
		json_add_item(o, "spans", spans_of(r, i));
		json_append(list, o);
	}
	return list;
}
