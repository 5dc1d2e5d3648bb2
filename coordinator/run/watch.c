/* What probes, manager and agents tell, as it comes: into the record and into what was seen last. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "run/run.h"

static void on_attempt(const struct attempt *a, void *data)
{
	struct run *r = data;
	const struct probe_client *c = &r->record->clients[a->client];

	if (c->way != WAY_CLIENTS)
		return;
	if (c->kind == PROBE_READER) {
		if (a->outcome == OUTCOME_OK)
			r->read_ok_ns = a->done_ns;
		return;
	}
	r->write_tried_ns = a->done_ns;
	if (a->outcome == OUTCOME_OK && a->done_ns - a->sent_ns <= r->record->slow_ns) {
		r->write_ok_ns = a->done_ns;
		r->write_failing = false;
	} else if (a->sent_ns > r->write_ok_ns) {
		r->write_failing = true;
	}
}

static void on_observation(const struct observation *o, void *data)
{
	struct run *r = data;

	r->seen[o->instance] = *o;
}

static void on_probes_failed(const struct err *err, void *data)
{
	run_abort(data, "%s", err_text(err));
}

static const struct cluster_member *member_named(const struct cluster_view *v, const char *name)
{
	for (size_t i = 0; i < v->n_members; i++)
		if (strcmp(v->members[i].name, name) == 0)
			return &v->members[i];
	return NULL;
}

static void note_member(struct run *r, const struct cluster_view *v, const struct cluster_member *m,
	const struct cluster_member *old)
{
	int instance = m->instance ? run_instance_index(r, m->instance) : -1;
	const char *state = m->state ? m->state : "unknown";

	if (old && old->role == m->role && strcmp(old->state ? old->state : "unknown", state) == 0)
		return;
	run_record_add_event(r->record, v->at_ns, EVENT_MEMBER, instance, state, m->timeline,
		"manager: %s is %s, %s", m->name, role_to_string(m->role), state);
}

/* A pod that is made anew keeps its name and gets another address, and maybe another node. */
static void follow_pods(struct run *r, const struct cluster_view *v)
{
	for (size_t i = 0; r->probes && i < v->n_members; i++) {
		const struct cluster_member *m = &v->members[i];
		int instance = m->instance ? run_instance_index(r, m->instance) : -1;

		if (instance >= 0 && m->address)
			probes_move(r->probes, (size_t)instance, m->address);
		if (instance >= 0 && m->node)
			run_instance_is_on(&r->record->instances[instance], m->node);
	}
}

/* Members answer by turns and may differ for a while; what a cut-off member says is told but only
 * an answer that differs from the newest one makes an event. */
static void on_view(const struct cluster_view *v, void *data)
{
	struct run *r = data;
	const struct cluster_view *old = r->cluster.view;
	const char *before = old && old->leader ? old->leader : NULL;

	if ((before == NULL) != (v->leader == NULL) ||
		(before && v->leader && strcmp(before, v->leader))) {
		const struct cluster_member *m = v->leader ? member_named(v, v->leader) : NULL;

		run_record_add_event(r->record, v->at_ns, EVENT_LEADER,
			m && m->instance ? run_instance_index(r, m->instance) : -1,
			v->leader ? v->leader : "none", m ? m->timeline : 0,
			v->leader ? "manager: %s leads%s%s" : "manager: nobody leads", v->leader,
			v->leader_since ? ", by the manager's word since " : "",
			v->leader_since ? v->leader_since : "");
	}
	for (size_t i = 0; i < v->n_members; i++)
		note_member(r, v, &v->members[i],
			old ? member_named(old, v->members[i].name) : NULL);
	for (size_t i = 0; old && i < old->n_members; i++)
		if (!member_named(v, old->members[i].name))
			run_record_add_event(r->record, v->at_ns, EVENT_MEMBER,
				old->members[i].instance ?
					run_instance_index(r, old->members[i].instance) :
					-1,
				"gone", 0, "manager: %s is gone from its list",
				old->members[i].name);
	follow_pods(r, v);
	cluster_set_view(&r->cluster, cluster_view_copy(v));
}

static void on_manager_event(const struct manager_event *e, void *data)
{
	struct run *r = data;

	run_record_add_event(r->record, now_ns(), e->kind,
		e->instance ? run_instance_index(r, e->instance) : -1, e->value, 0, "%s", e->text);
}

static struct probe_options probe_options(const struct run *r)
{
	return (struct probe_options){
		.conninfo = r->options->conninfo,
		.login = &r->ways.login,
		.write_service = {r->ways.write_host, r->ways.write.address, r->ways.write.port},
		.read_service = {r->ways.read_host, r->ways.read.address, r->ways.read.port},
		.interval_ns = r->drill->interval_ns,
		.fresh_interval_ns = r->drill->fresh_interval_ns,
		.poll_interval_ns = RUN_POLL_NS,
		.statement_timeout_ns = 2 * NS_PER_S,
		.connect_timeout_ns = NS_PER_S,
		.keep = r->options->keep,
		.straight = true,
	};
}

static void note_way(struct run *r, const char *whose, const char *host, const struct service_way *w)
{
	if (host)
		run_note(r, EVENT_NOTE, -1, NULL, "%s' way: Service %s (%s, port %u)", whose, host,
			w->address, w->port);
}

/* Hosts of the user's own go before Services. */
static int find_ways(struct run *r, struct err **err)
{
	int k = ways_find(&r->cluster, r->options->user_secret, &r->ways, err);

	if (k < 0)
		return k;
	note_way(r, "clients", r->ways.write_host, &r->ways.write);
	note_way(r, "readers", r->ways.read_host, &r->ways.read);
	return 0;
}

int run_watch(struct run *r, struct err **err)
{
	struct probe_options o;
	struct probe_listener l = {
		.attempt = on_attempt,
		.observation = on_observation,
		.failed = on_probes_failed,
		.data = r,
	};
	const struct manager_listener m = {
		.view = on_view,
		.event = on_manager_event,
		.data = r,
	};
	int k = find_ways(r, err);

	o = probe_options(r);
	if (k >= 0)
		k = probes_prepare(r->session->event, r->record, &o, err);
	if (k >= 0)
		k = probes_start(r->session->event, r->record, &o, r->folder, &l, &r->probes, err);
	if (k >= 0)
		k = r->cluster.manager->ops->watch(r->cluster.manager, RUN_MANAGER_MS, &m, err);
	if (k >= 0)
		k = run_follow_agents(r, err);
	return k;
}
