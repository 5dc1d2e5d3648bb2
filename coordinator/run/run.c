#include "run/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/units.h"
#include "probe/ledger_check.h"
#include "report/report.h"
#include "run/timeline.h"


int run_instance_index(const struct run *r, const char *name)
{
	return run_record_find_instance(r->record, name);
}

void run_note(struct run *r, enum event_kind kind, int instance, const char *value,
	const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int k;

	va_start(ap, fmt);
	k = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (k >= 0)
		run_record_add_event(r->record, now_ns(), kind, instance, value, 0, "%s", text);
}

void run_abort(struct run *r, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int k;

	va_start(ap, fmt);
	k = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (k < 0)
		abort();
	if (r->abort_why) {
		free(text);
		return;
	}
	r->abort_why = text;
	run_note(r, EVENT_ABORT, -1, "abort", "aborting: %s", text);
}

/* ---- the loop ---- */

static void show(struct run *r)
{
	char status[160], since[UNITS_TEXT_MAX];
	uint64_t now = now_ns();

	for (; r->events_shown < r->record->n_events; r->events_shown++) {
		const struct run_event *e = &r->record->events[r->events_shown];

		if (r->events_file) {
			_cleanup_json_ cJSON *json = run_event_to_json(r->record, e);
			_cleanup_free_ char *line = json_print(json);

			if (fprintf(r->events_file, "%s\n", line) < 0 ||
				fflush(r->events_file)) {
				fclose(r->events_file);
				r->events_file = NULL;
				run_abort(r, "events.jsonl: %s", strerror(errno));
			}
		}
		if (r->timeline)
			timeline_event(r->timeline, r->record, e);
	}
	if (!r->timeline)
		return;
	if (!r->write_ok_ns) {
		timeline_status(r->timeline, "Ctrl-C reverts everything.");
		return;
	}
	duration_human(now - r->write_ok_ns, since);
	snprintf(status, sizeof(status), "%8.1f s   last acknowledged write %s ago   %zu attempts",
		(double)(now - r->record->started_ns) / 1e9, since, r->record->n_attempts);
	timeline_status(r->timeline, status);
}

static void check_aborts(struct run *r)
{
	const struct drill *d = r->drill;
	uint64_t since_ns = r->write_ok_ns ? r->write_ok_ns : r->record->started_ns;
	uint64_t now = now_ns();

	if (r->aborted)
		return;
	if (d->abort_time_ns && now - r->record->started_ns > d->abort_time_ns)
		run_abort(r, "the drill took longer than its abort.time");
	if (d->abort_lag_bytes && run_lag_bytes(r) > d->abort_lag_bytes)
		run_abort(r, "a replica lags by more than abort.lag");
	if (d->abort_writes_down_ns && r->write_failing && now - since_ns > d->abort_writes_down_ns)
		run_abort(r, "writes were down for longer than abort.writesDown");
}

int run_turn(struct run *r, uint64_t timeout_ns, struct err **err)
{
	int k = sd_event_run(r->session->event, timeout_ns / NS_PER_US);

	if (k < 0)
		return err_errno(err, k, "event loop");
	run_check_agents(r);
	for (size_t i = 0; i < r->n_experiments; i++) {
		struct run_experiment *e = r->experiments[i];

		/* One question at a time, and none while an answer is on its way. */
		if (e->stale && !e->ended && !e->fire_pending && !e->revert_pending &&
			!r->agent_lost) {
			e->stale = false;
			run_ask(r, e);
		}
	}
	check_aborts(r);
	run_check_gone(r);
	show(r);
	return 0;
}

int run_wait(struct run *r, bool (*holds)(struct run *r, void *data), void *data,
	uint64_t limit_ns, struct err **err)
{
	uint64_t end = now_ns() + limit_ns;

	while (!holds(r, data)) {
		int k;

		if (r->abort_why)
			return err_set(err, -ECANCELED, "%s", r->abort_why);
		if (now_ns() >= end)
			return err_set(err, -ETIMEDOUT, "not within the limit");
		k = run_turn(r, 20 * NS_PER_MS, err);
		if (k < 0)
			return k;
	}
	return 0;
}

void run_interrupt(struct run *r)
{
	bool again = r->interrupted;

	r->interrupted = true;
	if (!again || r->hurry)
		return;
	r->hurry = true;
	r->hurry_ns = now_ns();
	if (r->probes)
		probes_hurry(r->probes);
	run_note(r, EVENT_NOTE, -1, "hurry", "interrupted again: nothing is waited for any more");
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *data)
{
	(void)s;
	(void)si;
	run_interrupt(data);
	run_abort(data, "interrupted");
	return 0;
}

static int on_agent_death(sd_event_source *s, int fd, uint32_t revents, void *data)
{
	struct run *r = data;

	(void)fd;
	(void)revents;
	sd_event_source_set_enabled(s, SD_EVENT_OFF);
	if (r->agent_lost)
		return 0;
	r->agent_lost = true;
	run_note(r, EVENT_AGENT, -1, "lost", "the agent is gone; what it held ended with it");
	run_abort(r, "the agent is gone");
	return 0;
}

int run_watch_signals(struct run *r, sd_event_signal_handler_t handler, struct err **err)
{
	sd_event *event = r->session->event;
	struct sigaction hup;
	sigset_t set;
	bool ignored;
	int k;

	ignored = sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler == SIG_IGN;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (!ignored)
		sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k = sd_event_add_signal(event, &r->on_int, SIGINT, handler, r);
	if (k >= 0)
		k = sd_event_add_signal(event, &r->on_term, SIGTERM, handler, r);
	if (k >= 0 && !ignored)
		k = sd_event_add_signal(event, &r->on_hup, SIGHUP, handler, r);
	return k < 0 ? err_errno(err, k, "event loop") : 0;
}

static int watch_ends(struct run *r, struct err **err)
{
	int k = run_watch_signals(r, on_signal, err);

	if (k < 0 || !r->session->local)
		return k;
	k = sd_event_add_io(r->session->event, &r->agent_death,
		local_agent_pidfd(r->session->local), EPOLLIN, on_agent_death, r);
	return k < 0 ? err_errno(err, k, "event loop") : 0;
}

/* ---- the phases ---- */

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

static bool is_recovered(struct run *r, void *data)
{
	struct steady *s = data;

	if (!run_streaming(r, NULL) || r->write_failing)
		s->since_ns = 0;
	else if (!s->since_ns)
		s->since_ns = now_ns();
	/* Some more polls, so that what the verdict computes from has seen it too. */
	return s->since_ns && now_ns() - s->since_ns >= NS_PER_S;
}

static void wait_recovery(struct run *r)
{
	_cleanup_free_ char *why = NULL;
	struct steady s = {0};
	char limit[UNITS_TEXT_MAX];

	duration_human(r->drill->recovery_limit_ns, limit);
	run_note(r, EVENT_STEP, -1, "recovery", "wait for full redundancy, at most %s", limit);
	if (run_wait(r, is_recovered, &s, r->drill->recovery_limit_ns, NULL) == -ETIMEDOUT) {
		run_streaming(r, &why);
		run_note(r, EVENT_STEP, -1, "missed", "no full redundancy within the limit: %s",
			why ? why : "writes do not work");
	}
}

static void end_as(struct run *r, enum run_verdict v, const char *why)
{
	r->record->ended_as = v;
	free(r->record->ended_why);
	r->record->ended_why = strdup(why);
}

/* Returns how many may be left. */
static size_t revert(struct run *r)
{
	run_revert_all(r);
	if (r->agent_lost)
		return run_replay_journal(r);
	if (!r->hurry)
		run_collect(r);
	return run_count_left(r);
}

static void leave_unchecked(struct run *r, const char *why)
{
	free(r->record->ledger.error);
	r->record->ledger.error = strdup(why);
	run_note(r, EVENT_NOTE, -1, "ledger",
		"the ledger cannot be checked: %s; the probe's schema pgjolt_probe stays", why);
}

static void check_ledger(struct run *r, unsigned writable)
{
	ledger_count(r->record);
	if (writable > 1)
		/* Which of them has the cluster's future nobody can say. */
		leave_unchecked(r, "more than one instance takes writes");
	else if (r->all_gone)
		leave_unchecked(r, "no instance is there any more");
	else if (r->hurry)
		leave_unchecked(r, "interrupted again");
	else if (probes_check(r->probes, NULL) == -ECANCELED && !r->record->ledger.done)
		leave_unchecked(r, "interrupted again");
	else if (r->record->ledger.error)
		run_note(r, EVENT_NOTE, -1, "ledger", "the ledger could not be checked: %s",
			r->record->ledger.error);
}

static void finish(struct run *r, bool fired)
{
	size_t left = revert(r);
	unsigned writable;

	/* An aborted run still says how the cluster came back, for a while. */
	if (fired && !r->interrupted && !r->all_gone) {
		char *why = steal_ptr(r->abort_why);

		r->aborted = why != NULL;
		wait_recovery(r);
		if (why) {
			free(r->abort_why);
			r->abort_why = why;
		}
	}
	writable = run_writable_instances(r);
	if (r->probes) {
		probes_stop(r->probes);
		check_ledger(r, writable);
	}
	if (left && !r->agent_lost && !r->hurry) {
		/* Meanwhile a lease may have ended, or an agent's next try been better. */
		run_collect(r);
		left = run_count_left(r);
	}
	if (left && r->hurry)
		end_as(r, VERDICT_STUCK, "interrupted again before every fault was known to be reverted: "
					 "their leases end them; see `pgjolt status`");
	else if (left)
		end_as(r, VERDICT_STUCK, "a fault could not be reverted: see `pgjolt status`; "
					 "`pgjolt-agent revert-all` on the node says what is left");
	else if (r->abort_why)
		end_as(r, VERDICT_ABORTED, r->abort_why);
	r->record->ended_ns = now_ns();
	run_note(r, EVENT_RUN, -1, "end", "run %s ended", r->record->run);
	show(r);
}

void run_done(struct run *r)
{
	run_unfollow_agents(r);
	probes_free(r->probes);
	ways_done(&r->ways);
	cluster_lock_release(r->cluster_lock);
	cluster_done(&r->cluster);
	sd_event_source_disable_unref(r->on_int);
	sd_event_source_disable_unref(r->on_term);
	sd_event_source_disable_unref(r->on_hup);
	sd_event_source_disable_unref(r->renewing);
	sd_event_source_disable_unref(r->agent_death);
	timeline_free(r->timeline);
	if (r->events_file)
		fclose(r->events_file);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	for (size_t i = 0; i < r->n_experiments; i++) {
		free(r->experiments[i]->id);
		free(r->experiments[i]);
	}
	free(r->experiments);
	run_forget_answers(r);
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
	k = watch_ends(r, err);
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
	if (k < 0 && !r->abort_why) {
		finish(r, false);
		end_as(r, VERDICT_REFUSED, err_text(cause));
		return 0;
	}
	if (k >= 0) {
		k = run_steps(r, &cause);
		if (k < 0 && !r->abort_why)
			step_failed(r, k, cause);
	}
	finish(r, any_fired(r));
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
