#include "verdict/milestones.h"

#include <string.h>

#include "core/cleanup.h"

static void set(struct verdict *v, enum milestone m, uint64_t ns)
{
	v->milestones[m] = (struct figure){true, ns};
}

static bool valid_instance(const struct run_record *r, int i)
{
	return i >= 0 && (size_t)i < r->n_instances;
}

/* ---- before the fault ---- */

static const struct fault_run *first_fault(const struct run_record *r)
{
	const struct fault_run *first = NULL;

	for (size_t i = 0; i < r->n_faults; i++)
		if (r->faults[i].fired_ns && (!first || r->faults[i].fired_ns < first->fired_ns))
			first = &r->faults[i];
	return first;
}

/* Who led when the fault fired: the last seen out of recovery, else who led at the start. */
static void find_old_primary(const struct run_record *r, struct verdict *v)
{
	uint64_t t0 = v->milestones[T0].ns, at = 0;

	v->old_primary = -1;
	for (size_t i = 0; i < r->n_instances && v->old_primary < 0; i++) {
		if (r->instances[i].role_at_start != ROLE_PRIMARY)
			continue;
		v->old_primary = (int)i;
		v->old_timeline = r->instances[i].timeline_at_start;
	}
	for (size_t i = 0; i < r->n_observations; i++) {
		const struct observation *o = &r->observations[i];

		if (!o->reachable || o->in_recovery || o->at_ns > t0 || o->at_ns < at ||
			!valid_instance(r, o->instance))
			continue;
		at = o->at_ns;
		v->old_primary = o->instance;
		if (o->timeline)
			v->old_timeline = o->timeline;
	}
}

/* ---- T2: the manager's first reaction ---- */

/* How well a member is by its manager's word: Patroni's states, and "gone". */
static int state_rank(const char *state)
{
	if (!state)
		return 0;
	if (strcmp(state, "streaming") == 0)
		return 3;
	if (strcmp(state, "running") == 0)
		return 2;
	if (strcmp(state, "in archive recovery") == 0)
		return 1;
	return 0;
}

static const struct run_event *member_before(const struct run_record *r, size_t i)
{
	for (size_t k = i; k > 0; k--) {
		const struct run_event *e = &r->events[k - 1];

		if (e->kind == EVENT_MEMBER && e->instance == r->events[i].instance)
			return e;
	}
	return NULL;
}

static bool is_worse(const struct run_record *r, size_t i)
{
	const struct run_event *e = &r->events[i];
	const struct run_event *before = e->instance >= 0 ? member_before(r, i) : NULL;

	return state_rank(e->value) < (before ? state_rank(before->value) : 2);
}

/* The reasons that CloudNativePG's operator gives when it begins to act on a primary
 * (internal/controller, pkg/management of cloudnative-pg), and the node controller's. */
static bool kube_event_is_reaction(const char *reason)
{
	static const char *const reactions[] = {"FailingOver", "FailoverTarget", "SwitchingOver",
		"Switchover", "PrimaryStatusCheckFailed", "PrimaryLeaseConflict", "NodeNotReady",
		"TaintManagerEviction"};

	for (size_t i = 0; reason && i < ELEMENTS(reactions); i++)
		if (strcmp(reactions[i], reason) == 0)
			return true;
	return false;
}

/*
 * In Kubernetes: a pod held to be no longer ready, being deleted or gone; the operator's word that
 * something is wrong; an event by which it begins to act. That kubelet restarts a container, or that
 * all is well again, is none.
 */
static bool is_kubernetes_reaction(const struct run_event *e)
{
	const char *value = e->value ? e->value : "";

	switch (e->kind) {
	case EVENT_READY:
	case EVENT_PHASE:
		return strcmp(value, "fail") == 0;
	case EVENT_POD:
		return strcmp(value, "gone") == 0 || strcmp(value, "deleting") == 0;
	case EVENT_KUBERNETES:
		return kube_event_is_reaction(value);
	default:
		return false;
	}
}

static bool is_reaction(const struct run_record *r, size_t i)
{
	const struct run_event *e = &r->events[i];

	return e->kind == EVENT_LEADER || e->kind == EVENT_ROLE || e->kind == EVENT_CHOSEN ||
		(e->kind == EVENT_MEMBER && is_worse(r, i)) || is_kubernetes_reaction(e);
}

/* ---- T3, T4: the new primary ---- */

static bool names_another(const struct run_record *r, const struct verdict *v,
	const struct run_event *e)
{
	if ((e->kind != EVENT_LEADER && e->kind != EVENT_CHOSEN) || !e->value ||
		strcmp(e->value, "none") == 0 || strcmp(e->value, "pending") == 0)
		return false;
	if (valid_instance(r, e->instance))
		return e->instance != v->old_primary;
	if (v->old_primary < 0)
		return false;
	return !r->instances[v->old_primary].member ||
		strcmp(e->value, r->instances[v->old_primary].member) != 0;
}

/* Out of recovery on a higher timeline; where the old one is not known, a former replica. */
static bool is_promoted(const struct run_record *r, const struct verdict *v, int instance,
	uint32_t timeline)
{
	if (!valid_instance(r, instance) || instance == v->old_primary)
		return false;
	if (v->old_timeline == 0 || timeline == 0)
		return r->instances[instance].role_at_start == ROLE_REPLICA;
	return timeline > v->old_timeline;
}

static void take_promotion(struct verdict *v, uint64_t at, int instance, uint32_t timeline)
{
	if (v->milestones[T4].known && v->milestones[T4].ns <= at)
		return;
	set(v, T4, at);
	v->new_primary = instance;
	v->new_timeline = timeline;
}

static void from_events(const struct run_record *r, struct verdict *v)
{
	uint64_t t0 = v->milestones[T0].ns;

	for (size_t i = 0; i < r->n_events; i++) {
		const struct run_event *e = &r->events[i];

		if (e->at_ns < t0)
			continue;
		if (is_reaction(r, i) && (!v->milestones[T2].known || e->at_ns < v->milestones[T2].ns))
			set(v, T2, e->at_ns);
		if (names_another(r, v, e) &&
			(!v->milestones[T3].known || e->at_ns < v->milestones[T3].ns))
			set(v, T3, e->at_ns);
		if (e->kind == EVENT_ROLE && e->value && strcmp(e->value, "primary") == 0 &&
			is_promoted(r, v, e->instance, e->timeline))
			take_promotion(v, e->at_ns, e->instance, e->timeline);
	}
}

static void from_observations(const struct run_record *r, struct verdict *v)
{
	for (size_t i = 0; i < r->n_observations; i++) {
		const struct observation *o = &r->observations[i];

		if (o->at_ns >= v->milestones[T0].ns && o->reachable && !o->in_recovery &&
			is_promoted(r, v, o->instance, o->timeline))
			take_promotion(v, o->at_ns, o->instance, o->timeline);
	}
}

static void find_following(const struct run_record *r, struct verdict *v)
{
	if (!v->milestones[T4].known || v->old_primary < 0)
		return;
	for (size_t i = 0; i < r->n_observations; i++) {
		const struct observation *o = &r->observations[i];

		if (o->instance != v->old_primary || o->at_ns < v->milestones[T4].ns ||
			!o->reachable || !o->in_recovery || !o->streaming ||
			(o->timeline && o->timeline < v->new_timeline))
			continue;
		if (!v->milestones[T7].known || o->at_ns < v->milestones[T7].ns)
			set(v, T7, o->at_ns);
	}
}

/* ---- T1, T5, T6: as clients feel it ---- */

/* The outage in which the promotion fell; else the first. */
static const struct outage *main_outage(const struct verdict *v, bool *ret_promoted)
{
	*ret_promoted = false;
	for (size_t i = 0; i < v->n_write_outages && v->milestones[T4].known; i++) {
		const struct outage *o = &v->write_outages[i];

		if (v->milestones[T4].ns < o->from_ns || v->milestones[T4].ns > o->to_ns)
			continue;
		*ret_promoted = true;
		return o;
	}
	return v->n_write_outages ? &v->write_outages[0] : NULL;
}

/* The sooner an attempt follows another the sharper the figure; after an outage sessions are new. */
static uint64_t resolution(const struct series *s, const struct figure *bad,
	const struct attempt *again, bool outage)
{
	uint64_t nominal = outage && s->fresh_ns ? s->fresh_ns : s->fastest_ns;
	uint64_t ns = nominal, pause;

	if (bad->known) {
		pause = series_pause(s, bad->ns, nominal);
		ns = pause > ns ? pause : ns;
	}
	if (again) {
		pause = series_pause(s, again->sent_ns, nominal);
		ns = pause > ns ? pause : ns;
	}
	return ns;
}

static void writes_compute(const struct run_record *r, struct verdict *v)
{
	uint64_t t0 = v->milestones[T0].ns;
	const struct outage *outage;
	const struct attempt *again = NULL;
	struct figure bad;
	struct series s;
	bool promoted;

	series_init(&s, r, PROBE_WRITER);
	bad = series_first_bad(&s, t0);
	v->milestones[T1] = bad;
	v->writes_failed = bad.known;
	v->n_write_outages = series_outages(&s, t0, &v->write_outages);
	v->write_downtime_ns = outages_sum(v->write_outages, v->n_write_outages);
	outage = main_outage(v, &promoted);
	if (outage && !outage->open)
		/* The old primary's late answers end no outage in which another was promoted. */
		again = series_first_ok(&s, outage->to_ns - 1, promoted ? v->new_timeline : 0);
	else if (!outage && bad.known && v->milestones[T4].known)
		/* Promoted so fast that nobody called it an outage. */
		again = series_first_ok(&s, bad.ns, v->new_timeline);
	if (again)
		set(v, T5, again->done_ns);
	v->resolution_ns = resolution(&s, &bad, again, outage != NULL);
	series_done(&s);
}

static void reads_compute(const struct run_record *r, struct verdict *v)
{
	uint64_t t0 = v->milestones[T0].ns;
	const struct attempt *again = NULL;
	struct figure bad;
	struct series s;

	series_init(&s, r, PROBE_READER);
	bad = series_first_bad(&s, t0);
	v->reads_failed = bad.known;
	v->n_read_outages = series_outages(&s, t0, &v->read_outages);
	v->read_downtime_ns = outages_sum(v->read_outages, v->n_read_outages);
	if (v->n_read_outages && !v->read_outages[0].open)
		again = series_first_ok(&s, v->read_outages[0].to_ns - 1, 0);
	if (again)
		set(v, T6, again->done_ns);
	v->read_resolution_ns = resolution(&s, &bad, again, v->n_read_outages != 0);
	series_done(&s);
}

static struct figure since_t0(const struct verdict *v, enum milestone m)
{
	if (!v->milestones[T0].known || !v->milestones[m].known ||
		v->milestones[m].ns < v->milestones[T0].ns)
		return (struct figure){0};
	return (struct figure){true, v->milestones[m].ns - v->milestones[T0].ns};
}

void milestones_compute(const struct run_record *r, struct verdict *v)
{
	const struct fault_run *fault = first_fault(r);

	v->old_primary = v->new_primary = -1;
	v->manager_resolution_ns = r->manager_interval_ns;
	v->poll_resolution_ns = r->poll_interval_ns;
	if (!fault)
		return;
	set(v, T0, fault->fired_ns);
	find_old_primary(r, v);
	from_events(r, v);
	from_observations(r, v);
	find_following(r, v);
	writes_compute(r, v);
	reads_compute(r, v);
	redundancy_compute(r, v);
	/* How well T0 is known on our clock adds to every figure that begins with it. */
	v->resolution_ns += fault->fired_uncertainty_ns;
	v->read_resolution_ns += fault->fired_uncertainty_ns;
	v->manager_resolution_ns += fault->fired_uncertainty_ns;
	v->poll_resolution_ns += fault->fired_uncertainty_ns;
	v->ttd = since_t0(v, T2);
	v->write_ttr = since_t0(v, T5);
	v->read_ttr = since_t0(v, T6);
	v->full_ttr = since_t0(v, T8);
}
