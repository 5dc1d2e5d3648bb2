#include "run/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "report/report.h"
#include "run/timeline.h"

int run_instance_index(const struct run *r, const char *name)
{
	return run_record_find_instance(r->record, name);
}

static void fill_record(struct run *r)
{
	struct run_record *record = r->record;
	const struct cluster *c = &r->cluster;

	record->drill = strdup(r->drill->name);
	record->drill_summary = strdup(r->drill->summary);
	record->expected_behaviour = r->drill->expected ? strdup(r->drill->expected) : NULL;
	record->cluster = strdup(c->name);
	record->manager = strdup(c->manager->driver->name);
	record->started_ns = now_ns();
	record->started_realtime_ns = realtime_ns();
	record->probe_interval_ns = r->drill->interval_ns;
	record->slow_ns = r->drill->slow_ns;
	record->poll_interval_ns = RUN_POLL_NS;
	record->manager_interval_ns = RUN_MANAGER_MS * NS_PER_MS;
	record->lag_limit_bytes = r->drill->steady_lag_bytes;
	record->synchronous = c->view && c->view->synchronous;
	record->instances = calloc(c->targets.count, sizeof(*record->instances));
	r->seen = calloc(c->targets.count + 1, sizeof(*r->seen));
	if (!record->instances || !r->seen)
		abort();
	for (size_t i = 0; i < c->targets.count; i++) {
		const struct instance_info *n = c->targets.items[i].info;
		const struct cluster_member *m = cluster_member_of(c, n->name);

		record->instances[record->n_instances++] = (struct run_instance){
			.name = strdup(n->name),
			.member = strdup(n->member),
			.node = n->node ? strdup(n->node) : NULL,
			.namespace = n->namespace ? strdup(n->namespace) : NULL,
			.pod = n->pod ? strdup(n->pod) : NULL,
			.host = strdup(n->addresses && n->addresses[0] ? n->addresses[0] :
									 "127.0.0.1"),
			.port = n->port,
			.role_at_start = m ? m->role : n->role,
			.timeline_at_start = m ? m->timeline : 0,
		};
	}
	record->expectations = calloc(r->drill->n_expectations + 1, sizeof(*record->expectations));
	if (!record->expectations)
		abort();
	for (size_t i = 0; i < r->drill->n_expectations; i++) {
		record->expectations[i] = r->drill->expectations[i];
		record->expectations[i].text = strdup(r->drill->expectations[i].text);
	}
	record->n_expectations = r->drill->n_expectations;
}

struct steady {
	uint64_t since_ns;
};

static bool is_steady(struct run *r, void *data)
{
	struct steady *s = data;
	uint64_t now = now_ns();

	if (!run_streaming(r, NULL) || r->write_failing || !r->write_ok_ns)
		s->since_ns = 0;
	else if (!s->since_ns)
		s->since_ns = now;
	return s->since_ns && now - s->since_ns >= r->drill->steady_for_ns;
}

static int wait_steady(struct run *r, struct err **err)
{
	_cleanup_free_ char *why = NULL;
	struct steady s = {0};
	int k;

	run_note(r, EVENT_STEADY, -1, "wait", "waiting for the steady state: all stream, writes work");
	k = run_wait(r, is_steady, &s, r->drill->steady_limit_ns, err);
	if (k == -ETIMEDOUT) {
		run_streaming(r, &why);
		return err_set(err, -EPERM, "no steady state: %s",
			why ? why : "writes through the clients' way do not work");
	}
	if (k >= 0)
		run_note(r, EVENT_STEADY, -1, "ok", "steady state");
	return k;
}

void run_done(struct run *r)
{
	run_unfollow_agents(r);
	probes_free(r->probes);
	ways_done(&r->ways);
	cluster_done(&r->cluster);
	sd_event_source_disable_unref(r->on_int);
	sd_event_source_disable_unref(r->on_term);
	sd_event_source_disable_unref(r->on_hup);
	sd_event_source_disable_unref(r->renewing);
	sd_event_source_disable_unref(r->agent_death);
	run_forget_answers(r);
	/* It runs the loop, in which nobody may tell of this run any more: its record may be gone. */
	cluster_lock_release(r->cluster_lock);
	timeline_free(r->timeline);
	if (r->events_file)
		fclose(r->events_file);
	run_unlock(r);
	for (size_t i = 0; i < r->n_experiments; i++) {
		free(r->experiments[i]->id);
		free(r->experiments[i]);
	}
	free(r->experiments);
	free(r->seen);
	free(r->folder);
	free(r->abort_why);
	run_record_free(r->record);
}

static void step_failed(struct run *r, int code, const struct err *err)
{
	/* A wait that reached its limit is the drill's failure, not an accident of ours. */
	if (code == -ETIMEDOUT) {
		r->record->steps_failed = strdup(err_text(err));
		return;
	}
	run_abort(r, "%s", err_text(err));
}

static bool any_fired(const struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->fired)
			return true;
	return false;
}

static void on_lock_lost(const char *why, void *data)
{
	run_abort(data, "%s", why);
}

static int execute(struct run *r, struct err **err)
{
	_cleanup_err_ struct err *cause = NULL;
	bool steady = false;
	int k;

	k = cluster_open(r->session, r->options->cluster, r->options->manager, &r->cluster, err);
	if (k >= 0)
		k = run_lock(r, true, err);
	if (k >= 0)
		k = cluster_lock_take(r->session, r->cluster.name, r->record->run, on_lock_lost, r,
			&r->cluster_lock, err);
	if (k >= 0)
		k = run_guards(r, err);
	if (k < 0)
		return k;
	fill_record(r);
	k = run_folder_open(r, err);
	if (k < 0)
		return k;
	run_note(r, EVENT_RUN, -1, "start", "run %s: %s on cluster %s (%s, %zu instances), seed %" PRIu64,
		r->record->run, r->drill->name, r->record->cluster, r->record->manager,
		r->record->n_instances, r->options->seed);
	k = run_watch_ends(r, err);
	if (k >= 0)
		k = run_renew_start(r, err);
	if (k >= 0)
		k = run_watch(r, err);
	if (k < 0) {
		/* Their table goes with them. */
		if (r->probes)
			probes_check(r->probes, NULL);
		return k;
	}
	k = wait_steady(r, &cause);
	if (k >= 0) {
		steady = true;
		k = run_steps(r, &cause);
	}
	if (k < 0 && !r->abort_why && (!steady || (k != -ETIMEDOUT && run_did_nothing(r)))) {
		run_finish(r, false);
		run_end_as(r, VERDICT_REFUSED, err_text(cause));
		return 0;
	}
	if (k < 0 && !r->abort_why)
		step_failed(r, k, cause);
	run_finish(r, any_fired(r));
	return 0;
}

int run_execute(struct session *s, const struct drill *d, const struct run_options *o,
	struct run_record **ret, char **ret_folder, struct err **err)
{
	struct run r = {.options = o, .drill = d, .session = s, .lock_fd = -1,
		.primary_at_fire = -1};
	int k;

	r.record = run_record_new();
	r.record->run = id_new("run");
	r.timeline = timeline_new(o->json ? stderr : stdout);
	k = execute(&r, err);
	if (k >= 0) {
		*ret = steal_ptr(r.record);
		*ret_folder = steal_ptr(r.folder);
	}
	run_done(&r);
	return k;
}
