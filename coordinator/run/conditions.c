/* What the drill waits for, read off what was seen last. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "run/run.h"

/* An observation older than this says nothing of now. */
#define FRESH_NS (1500 * NS_PER_MS)

static bool is_fresh(const struct observation *o)
{
	return o->at_ns && o->reachable && now_ns() - o->at_ns < FRESH_NS;
}

static bool promoted(const struct run *r, uint64_t since_ns)
{
	/* Nothing was fired yet: the primary of now is no successor. */
	if (r->primary_at_fire < 0)
		return false;
	for (size_t i = 0; i < r->record->n_instances; i++) {
		const struct observation *o = &r->seen[i];

		if ((int)i != r->primary_at_fire && is_fresh(o) && o->at_ns >= since_ns &&
			!o->in_recovery && o->timeline > r->timeline_at_fire)
			return true;
	}
	return false;
}

static bool demoted(const struct run *r, uint64_t since_ns)
{
	const struct observation *o;
	const struct cluster_view *v = r->cluster.view;
	const struct cluster_member *m;

	if (r->primary_at_fire < 0)
		return false;
	o = &r->seen[r->primary_at_fire];
	if (is_fresh(o) && o->at_ns >= since_ns)
		return o->in_recovery || o->read_only;
	m = cluster_member_of(&r->cluster, r->record->instances[r->primary_at_fire].name);
	return v && !v->guessed && v->at_ns >= since_ns && v->leader && (!m || strcmp(m->name, v->leader));
}

static int find_primary(const struct run *r)
{
	int found = -1;

	for (size_t i = 0; i < r->record->n_instances; i++) {
		if (!is_fresh(&r->seen[i]) || r->seen[i].in_recovery)
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

static void explain(char **ret_why, const char *who, const char *problem)
{
	char *text = NULL;

	if (ret_why && asprintf(&text, "%s %s", who, problem) >= 0)
		*ret_why = text;
}

static bool replica_streams(const struct run *r, size_t i, const struct observation *primary,
	char **ret_why)
{
	const struct observation *o = &r->seen[i];
	const char *name = r->record->instances[i].name, *problem = NULL;

	if (!is_fresh(o))
		problem = "does not answer";
	else if (!o->streaming)
		problem = "does not stream";
	else if (o->timeline != primary->timeline && o->timeline)
		problem = "is on another timeline";
	else if (primary->lsn > o->lsn && primary->lsn - o->lsn > r->drill->steady_lag_bytes)
		problem = "lags";
	if (problem)
		explain(ret_why, name, problem);
	return !problem;
}

/* Without one, Patroni promotes nobody, and the next drill would find no spare. */
static bool has_sync_standby(const struct cluster_view *v)
{
	for (size_t i = 0; i < v->n_members; i++)
		if (v->members[i].sync_standby)
			return true;
	return false;
}

bool run_streaming(const struct run *r, char **ret_why)
{
	const struct cluster_view *v = r->cluster.view;
	int primary = find_primary(r);

	if (primary < 0) {
		explain(ret_why, r->record->cluster, "has not exactly one primary that answers");
		return false;
	}
	for (size_t i = 0; i < r->record->n_instances; i++)
		if ((int)i != primary && !replica_streams(r, i, &r->seen[primary], ret_why))
			return false;
	if (v && v->synchronous && r->record->n_instances > 1 && !has_sync_standby(v)) {
		explain(ret_why, r->record->cluster, "has no synchronous standby yet");
		return false;
	}
	if (v && v->unsettled) {
		explain(ret_why, r->record->manager, v->unsettled);
		return false;
	}
	if (v && !v->leader && !v->guessed) {
		explain(ret_why, r->record->manager, "names no leader");
		return false;
	}
	return true;
}

unsigned run_reachable_instances(const struct run *r)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->record->n_instances; i++)
		n += is_fresh(&r->seen[i]);
	return n;
}

unsigned run_writable_instances(const struct run *r)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->record->n_instances; i++)
		n += is_fresh(&r->seen[i]) && !r->seen[i].in_recovery && !r->seen[i].read_only;
	return n;
}

uint64_t run_lag_bytes(const struct run *r)
{
	uint64_t most = 0, primary_lsn = 0;

	for (size_t i = 0; i < r->record->n_instances; i++)
		if (r->seen[i].at_ns && !r->seen[i].in_recovery && r->seen[i].lsn > primary_lsn)
			primary_lsn = r->seen[i].lsn;
	for (size_t i = 0; i < r->record->n_instances; i++)
		if (r->seen[i].lsn && r->seen[i].in_recovery && primary_lsn > r->seen[i].lsn &&
			primary_lsn - r->seen[i].lsn > most)
			most = primary_lsn - r->seen[i].lsn;
	return most;
}

bool run_condition(struct run *r, enum condition c, uint64_t since_ns)
{
	switch (c) {
	case WAIT_PROMOTED:
		return promoted(r, r->fired_ns);
	case WAIT_DEMOTED:
		return demoted(r, r->fired_ns);
	case WAIT_STREAMING:
		return run_streaming(r, NULL);
	case WAIT_WRITES:
		return r->write_ok_ns >= since_ns && !r->write_failing;
	case WAIT_READS:
		return r->read_ok_ns >= since_ns;
	case WAIT_REVERTED:
		return !run_faults_active(r);
	default:
		return false;
	}
}
