#include "report/report.h"

#include <stdlib.h>
#include <time.h>

#include "core/clock.h"

static double ms_since(uint64_t ns, uint64_t base_ns)
{
	return (double)((int64_t)(ns - base_ns) / 1000) / 1000.0;
}

/* Of the run's own time: from its start. 0 is never. */
static void add_at(cJSON *o, const char *name, const struct run_record *r, uint64_t ns)
{
	if (ns)
		json_add_double(o, name, ms_since(ns, r->started_ns));
	else
		json_add_null(o, name);
}

static void add_figure(cJSON *o, const char *name, const struct figure *f)
{
	if (f->known)
		json_add_ms(o, name, f->ns);
	else
		json_add_null(o, name);
}

static const char *instance_name(const struct run_record *r, int i)
{
	return i >= 0 && (size_t)i < r->n_instances ? r->instances[i].name : NULL;
}

static const char *client_name(const struct run_record *r, uint32_t i)
{
	return i < r->n_clients ? r->clients[i].name : NULL;
}

cJSON *run_event_to_json(const struct run_record *record, const struct run_event *e)
{
	cJSON *o = json_object();

	json_add_double(o, "at_ms", ms_since(e->at_ns, record->started_ns));
	json_add_string(o, "kind", event_kind_to_string(e->kind));
	json_add_string(o, "instance", instance_name(record, e->instance));
	json_add_string(o, "value", e->value);
	if (e->timeline)
		json_add_uint(o, "timeline", e->timeline);
	json_add_string(o, "text", e->text);
	return o;
}

static void add_started(cJSON *o, const struct run_record *r)
{
	time_t seconds = (time_t)(r->started_realtime_ns / NS_PER_S);
	char day[32], text[64];
	struct tm tm;

	if (!r->started_realtime_ns || !gmtime_r(&seconds, &tm)) {
		json_add_null(o, "started");
		return;
	}
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text, sizeof(text), "%s.%03uZ", day,
		(unsigned)(r->started_realtime_ns / NS_PER_MS % 1000));
	json_add_string(o, "started", text);
}

static void add_head(cJSON *o, const struct run_record *r, const struct verdict *v)
{
	json_add_uint(o, "version", REPORT_VERSION);
	json_add_string(o, "run", r->run);
	json_add_string(o, "drill", r->drill);
	json_add_string(o, "summary", r->drill_summary);
	json_add_string(o, "expected_behaviour", r->expected_behaviour);
	json_add_string(o, "cluster", r->cluster);
	json_add_string(o, "manager", r->manager);
	json_add_bool(o, "synchronous", r->synchronous);
	add_started(o, r);
	json_add_ms(o, "duration_ms", r->ended_ns > r->started_ns ? r->ended_ns - r->started_ns : 0);
	json_add_string(o, "verdict", run_verdict_to_string(v->verdict));
	json_add_strv(o, "reasons", v->reasons);
	json_add_strv(o, "notes", v->notes);
}

static void add_milestones(cJSON *o, const struct run_record *r, const struct verdict *v)
{
	static const char *const names[MILESTONE_MAX] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6",
		"t7", "t8"};
	const struct figure *t0 = &v->milestones[T0];
	cJSON *m = json_object();

	add_at(o, "t0_ms", r, t0->known ? t0->ns : 0);
	for (size_t i = 0; i < MILESTONE_MAX; i++) {
		if (t0->known && v->milestones[i].known)
			json_add_double(m, names[i], ms_since(v->milestones[i].ns, t0->ns));
		else
			json_add_null(m, names[i]);
	}
	json_add_item(o, "milestones_ms", m);
}

static cJSON *outages_json(const struct run_record *r, const struct outage *list, size_t n)
{
	cJSON *array = json_array();

	for (size_t i = 0; i < n; i++) {
		cJSON *o = json_object();

		add_at(o, "from_ms", r, list[i].from_ns);
		add_at(o, "to_ms", r, list[i].to_ns);
		json_add_bool(o, "open", list[i].open);
		json_append(array, o);
	}
	return array;
}

static void add_figures(cJSON *o, const struct run_record *r, const struct verdict *v)
{
	add_figure(o, "ttd_ms", &v->ttd);
	add_figure(o, "write_ttr_ms", &v->write_ttr);
	add_figure(o, "read_ttr_ms", &v->read_ttr);
	add_figure(o, "full_ttr_ms", &v->full_ttr);
	json_add_ms(o, "write_downtime_ms", v->write_downtime_ns);
	json_add_ms(o, "read_downtime_ms", v->read_downtime_ns);
	json_add_ms(o, "resolution_ms", v->resolution_ns);
	json_add_ms(o, "read_resolution_ms", v->read_resolution_ns);
	json_add_ms(o, "manager_resolution_ms", v->manager_resolution_ns);
	json_add_ms(o, "poll_resolution_ms", v->poll_resolution_ns);
	json_add_bool(o, "writes_failed", v->writes_failed);
	json_add_bool(o, "reads_failed", v->reads_failed);
	json_add_item(o, "write_outages",
		outages_json(r, v->write_outages, v->n_write_outages));
	json_add_item(o, "read_outages", outages_json(r, v->read_outages, v->n_read_outages));
	json_add_string(o, "redundancy", !v->redundancy_seen ? "unknown" :
		v->redundancy_lost ? "lost" : "kept");
	json_add_string(o, "old_primary", instance_name(r, v->old_primary));
	json_add_string(o, "new_primary", instance_name(r, v->new_primary));
	json_add_uint(o, "old_timeline", v->old_timeline);
	json_add_uint(o, "new_timeline", v->new_timeline);
}

static void add_ledger(cJSON *o, const struct run_record *r)
{
	const struct ledger_check *l = &r->ledger;
	cJSON *ledger = json_object(), *keys = json_array();

	json_add_bool(ledger, "checked", l->done);
	json_add_string(ledger, "error", l->error);
	json_add_uint(ledger, "attempted", l->attempted);
	json_add_uint(ledger, "ok", l->ok);
	json_add_uint(ledger, "failed", l->failed);
	json_add_uint(ledger, "unknown", l->unknown);
	json_add_uint(ledger, "found", l->found);
	json_add_uint(ledger, "lost", l->lost);
	json_add_uint(ledger, "recovered", l->recovered);
	json_add_uint(ledger, "unexpected", l->unexpected);
	json_add_item(o, "ledger", ledger);
	for (size_t i = 0; i < l->n_lost_keys; i++) {
		cJSON *key = json_object();

		json_add_string(key, "client", client_name(r, l->lost_keys[i].client));
		json_add_uint(key, "sequence", l->lost_keys[i].sequence);
		json_append(keys, key);
	}
	json_add_item(o, "lost_keys", keys);
}

static void add_split_brain(cJSON *o, const struct verdict *v)
{
	cJSON *s = json_object();

	json_add_string(s, "grade", split_brain_grade_to_string(v->split_brain));
	json_add_ms(s, "dual_writable_ms", v->dual_writable_ns);
	json_add_ms(s, "dual_claimed_ms", v->dual_claimed_ns);
	json_add_uint(s, "superseded_acks", v->superseded_acks);
	json_add_item(o, "split_brain", s);
}

static cJSON *copy(const cJSON *json)
{
	return json ? cJSON_Duplicate(json, true) : NULL;
}

static cJSON *fault_json(const struct run_record *r, const struct fault_run *f)
{
	cJSON *o = json_object();

	json_add_string(o, "experiment", f->experiment);
	json_add_string(o, "fault", f->fault);
	json_add_string(o, "instance", instance_name(r, f->instance));
	json_add_string(o, "step", f->step);
	json_add_item(o, "params", copy(f->params));
	json_add_strv(o, "peers_resolved", f->peers_resolved);
	add_at(o, "armed_ms", r, f->armed_ns);
	add_at(o, "fired_ms", r, f->fired_ns);
	json_add_double(o, "fire_us", (double)f->fire_duration_ns / 1000.0);
	json_add_ms(o, "fired_uncertainty_ms", f->fired_uncertainty_ns);
	add_at(o, "reverted_ms", r, f->reverted_ns);
	json_add_bool(o, "verified_clean", f->verified_clean);
	json_add_uint(o, "hits", f->hits);
	json_add_bool(o, "may_miss", f->may_miss);
	json_add_bool(o, "target_gone", f->target_gone);
	json_add_string(o, "mechanism", f->mechanism);
	json_add_string(o, "lifetime", f->lifetime);
	json_add_item(o, "evidence", copy(f->evidence));
	json_add_string(o, "error", f->error);
	return o;
}

static void add_lists(cJSON *o, const struct run_record *r, const struct verdict *v)
{
	cJSON *faults = json_array(), *results = json_array(), *events = json_array();

	for (size_t i = 0; i < r->n_faults; i++)
		json_append(faults, fault_json(r, &r->faults[i]));
	for (size_t i = 0; i < v->n_results; i++) {
		const struct expectation_result *e = &v->results[i];
		cJSON *result = json_object();

		json_add_string(result, "name", expectation_key(e->expectation->figure));
		json_add_string(result, "expected", e->expected);
		json_add_string(result, "actual", e->actual);
		json_add_bool(result, "passed", e->passed);
		json_append(results, result);
	}
	for (size_t i = 0; i < r->n_events; i++)
		json_append(events, run_event_to_json(r, &r->events[i]));
	json_add_item(o, "faults", faults);
	json_add_item(o, "expectations", results);
	json_add_item(o, "events", events);
}

static void add_cast(cJSON *o, const struct run_record *r)
{
	cJSON *instances = json_array(), *clients = json_array(), *settings = json_object();

	for (size_t i = 0; i < r->n_instances; i++) {
		const struct run_instance *n = &r->instances[i];
		cJSON *item = json_object();

		json_add_string(item, "name", n->name);
		json_add_string(item, "member", n->member);
		json_add_string(item, "node", n->node);
		if (n->last_node)
			json_add_string(item, "last_node", n->last_node);
		json_add_string(item, "address", n->host);
		if (n->pod) {
			json_add_string(item, "namespace", n->namespace);
			json_add_string(item, "pod", n->pod);
		}
		json_add_string(item, "role", role_to_string(n->role_at_start));
		json_add_uint(item, "timeline", n->timeline_at_start);
		json_append(instances, item);
	}
	for (size_t i = 0; i < r->n_clients; i++) {
		const struct probe_client *c = &r->clients[i];
		cJSON *item = json_object();

		json_add_string(item, "name", c->name);
		json_add_string(item, "kind", probe_kind_to_string(c->kind));
		json_add_string(item, "way", probe_way_to_string(c->way));
		json_add_bool(item, "fresh", c->fresh);
		json_add_string(item, "instance", instance_name(r, c->instance));
		json_add_ms(item, "interval_ms", c->interval_ns);
		json_append(clients, item);
	}
	json_add_ms(settings, "probe_interval_ms", r->probe_interval_ns);
	json_add_ms(settings, "slow_ms", r->slow_ns);
	json_add_ms(settings, "poll_interval_ms", r->poll_interval_ns);
	json_add_ms(settings, "manager_interval_ms", r->manager_interval_ns);
	json_add_uint(settings, "lag_limit_bytes", r->lag_limit_bytes);
	json_add_item(o, "instances", instances);
	json_add_item(o, "clients", clients);
	json_add_item(o, "settings", settings);
}

cJSON *report_json(const struct run_record *r, const struct verdict *v)
{
	cJSON *o = json_object();

	add_head(o, r, v);
	add_milestones(o, r, v);
	add_figures(o, r, v);
	add_ledger(o, r);
	add_split_brain(o, v);
	add_lists(o, r, v);
	add_cast(o, r);
	json_add_item(o, "states", report_states(r));
	json_add_item(o, "series", report_series(r));
	return o;
}
