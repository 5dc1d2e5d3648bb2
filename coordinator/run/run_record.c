#include "run/run_record.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "core/units.h"
#include "verdict/expectation.h"

static const char *const probe_kind_words[] = {
	[PROBE_WRITER] = "writer",
	[PROBE_READER] = "reader",
};
DEFINE_STRING_TABLE(probe_kind, enum probe_kind, probe_kind_words);

static const char *const probe_way_words[] = {
	[WAY_CLIENTS] = "clients",
	[WAY_INSTANCE] = "instance",
};
DEFINE_STRING_TABLE(probe_way, enum probe_way, probe_way_words);

static const char *const outcome_words[] = {
	[OUTCOME_OK] = "ok",
	[OUTCOME_FAIL] = "fail",
	[OUTCOME_UNKNOWN] = "unknown",
};
DEFINE_STRING_TABLE(outcome, enum outcome, outcome_words);

static const char *const event_kind_words[] = {
	[EVENT_RUN] = "run",
	[EVENT_STEADY] = "steady",
	[EVENT_STEP] = "step",
	[EVENT_ARMED] = "armed",
	[EVENT_FIRED] = "fired",
	[EVENT_REVERTED] = "reverted",
	[EVENT_FAULT_ERROR] = "fault-error",
	[EVENT_LEADER] = "leader",
	[EVENT_MEMBER] = "member",
	[EVENT_ROLE] = "role",
	[EVENT_REACH] = "reach",
	[EVENT_STREAMING] = "streaming",
	[EVENT_WRITES] = "writes",
	[EVENT_READS] = "reads",
	[EVENT_CHOSEN] = "chosen",
	[EVENT_PHASE] = "phase",
	[EVENT_READY] = "ready",
	[EVENT_POD] = "pod",
	[EVENT_KUBERNETES] = "kubernetes",
	[EVENT_ABORT] = "abort",
	[EVENT_AGENT] = "agent",
	[EVENT_NOTE] = "note",
};
DEFINE_STRING_TABLE(event_kind, enum event_kind, event_kind_words);

static const char *const run_verdict_words[] = {
	[VERDICT_PASSED] = "passed",
	[VERDICT_FAILED] = "failed",
	[VERDICT_REFUSED] = "refused",
	[VERDICT_ABORTED] = "aborted",
	[VERDICT_STUCK] = "stuck",
};
DEFINE_STRING_TABLE(run_verdict, enum run_verdict, run_verdict_words);

/* Room for one more element. A record with a hole would be worse than none: no memory, no run. */
static void *make_room(void *array, size_t n, size_t *capacity, size_t element)
{
	void *larger;

	if (n < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 64;
	larger = reallocarray(array, *capacity, element);
	if (!larger)
		abort();
	return larger;
}

struct run_record *run_record_new(void)
{
	struct run_record *r = calloc(1, sizeof(*r));

	if (!r)
		abort();
	return r;
}

static void fault_run_done(struct fault_run *f)
{
	free(f->experiment);
	free(f->fault);
	free(f->mechanism);
	free(f->lifetime);
	free(f->step);
	cJSON_Delete(f->params);
	strv_free(f->peers_resolved);
	cJSON_Delete(f->evidence);
	free(f->error);
}

void run_record_free(struct run_record *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_instances; i++) {
		free(r->instances[i].name);
		free(r->instances[i].member);
		free(r->instances[i].node);
		free(r->instances[i].namespace);
		free(r->instances[i].pod);
		free(r->instances[i].last_node);
		free(r->instances[i].host);
	}
	for (size_t i = 0; i < r->n_clients; i++)
		free(r->clients[i].name);
	for (size_t i = 0; i < r->n_events; i++) {
		free(r->events[i].text);
		free(r->events[i].value);
	}
	for (size_t i = 0; i < r->n_faults; i++)
		fault_run_done(&r->faults[i]);
	for (size_t i = 0; i < r->n_expectations; i++)
		free(r->expectations[i].text);	/* all that one holds; the verdict is above us */
	free(r->expectations);
	free(r->instances);
	free(r->clients);
	free(r->attempts);
	free(r->observations);
	free(r->events);
	free(r->faults);
	free(r->ledger.error);
	free(r->ledger.lost_keys);
	free(r->run);
	free(r->drill);
	free(r->drill_summary);
	free(r->cluster);
	free(r->manager);
	free(r->expected_behaviour);
	free(r->ended_why);
	free(r->steps_failed);
	free(r);
}

void run_record_add_attempt(struct run_record *r, const struct attempt *a)
{
	r->attempts = make_room(r->attempts, r->n_attempts, &r->attempts_capacity, sizeof(*a));
	r->attempts[r->n_attempts++] = *a;
}

void run_record_add_observation(struct run_record *r, const struct observation *o)
{
	r->observations = make_room(r->observations, r->n_observations, &r->observations_capacity,
		sizeof(*o));
	r->observations[r->n_observations++] = *o;
}

struct run_event *run_record_add_event(struct run_record *r, uint64_t at_ns, enum event_kind kind,
	int instance, const char *value, uint32_t timeline, const char *fmt, ...)
{
	struct run_event e = {
		.at_ns = at_ns,
		.kind = kind,
		.instance = instance,
		.timeline = timeline,
	};
	va_list ap;

	va_start(ap, fmt);
	e.text = text_vformat(fmt, ap);
	va_end(ap);
	if (value && !(e.value = strdup(value)))
		abort();
	r->events = make_room(r->events, r->n_events, &r->events_capacity, sizeof(e));
	r->events[r->n_events] = e;
	return &r->events[r->n_events++];
}

char *fault_run_words(const struct run_record *r, const struct fault_run *f)
{
	const char *fault = f->fault ? f->fault : "a fault", *instance = "its instance";
	char after[UNITS_TEXT_MAX];

	if (!f->target_gone)
		return NULL;
	if (f->instance >= 0 && (size_t)f->instance < r->n_instances && r->instances[f->instance].name)
		instance = r->instances[f->instance].name;
	if (!f->fired_ns)
		return text_format("%s could not be fired: %s ended while it was armed", fault, instance);
	if (f->reverted_ns < f->fired_ns)
		return text_format("%s ended, and %s on it with it", instance, fault);
	return text_format("%s ended, and %s on it with it, %s after it was fired", instance, fault,
		duration_human(f->reverted_ns - f->fired_ns, after));
}

int run_record_find_instance(const struct run_record *r, const char *name)
{
	for (size_t i = 0; i < r->n_instances; i++)
		if (r->instances[i].name && strcmp(r->instances[i].name, name) == 0)
			return (int)i;
	return -1;
}

void run_instance_is_on(struct run_instance *n, const char *node)
{
	const char *last = n->last_node ? n->last_node : n->node;

	if (last && strcmp(last, node) == 0)
		return;
	free(n->last_node);
	n->last_node = strdup(node);
}
