/* One experiment: its states, from the first word of a client to the last look at the kernel. */
#include "experiment/experiment.h"

#include <string.h>
#include "core/clock.h"
#include "experiment/machine.h"

#define REQUEST_MAX_BYTES (64 << 10)

static const bool allowed[EXPERIMENT_STATE_MAX][EXPERIMENT_STATE_MAX] = {
	[EXPERIMENT_NEW] = {[EXPERIMENT_ARMED] = true,
			    [EXPERIMENT_REFUSED] = true,
			    [EXPERIMENT_REVERTING] = true},
	[EXPERIMENT_ARMED] = {[EXPERIMENT_FIRING] = true, [EXPERIMENT_REVERTING] = true},
	[EXPERIMENT_FIRING] = {[EXPERIMENT_ACTIVE] = true, [EXPERIMENT_REVERTING] = true},
	[EXPERIMENT_ACTIVE] = {[EXPERIMENT_REVERTING] = true},
	[EXPERIMENT_REVERTING] = {[EXPERIMENT_VERIFYING] = true, [EXPERIMENT_STUCK] = true},
	[EXPERIMENT_VERIFYING] = {[EXPERIMENT_CLEAN] = true, [EXPERIMENT_STUCK] = true},
	[EXPERIMENT_STUCK] = {[EXPERIMENT_REVERTING] = true},
};

bool experiment_state_may_follow(enum experiment_state from, enum experiment_state to)
{
	return from < EXPERIMENT_STATE_MAX && to < EXPERIMENT_STATE_MAX && allowed[from][to];
}

bool experiment_is_live(const struct experiment *e)
{
	return e->state != EXPERIMENT_NEW && !experiment_is_ended(e);
}

const char *experiment_instance(const struct experiment *e)
{
	return e->instance_name;
}

bool experiment_is_ended(const struct experiment *e)
{
	return e->state == EXPERIMENT_CLEAN || e->state == EXPERIMENT_REFUSED;
}

void experiment_set_state(struct experiment *e, enum experiment_state to, const char *detail)
{
	if (!experiment_state_may_follow(e->state, to))
		abort();
	e->state = to;
	switch (to) {
	case EXPERIMENT_ARMED:
		e->armed_ns = now_ns();
		break;
	case EXPERIMENT_VERIFYING:
		e->reverted_ns = now_ns();
		break;
	case EXPERIMENT_CLEAN:
		e->verified_ns = now_ns();
		break;
	default:
		break;
	}
	experiment_clocks_drop(e);
	if (e->retrying && to != EXPERIMENT_CLEAN)
		return;
	experiments_tell(e->all, "state", e, experiment_state_to_string(to), "%s on %s: %s%s%s",
		e->fault_name, e->instance_name, experiment_state_to_string(to), detail ? ": " : "",
		detail ? detail : "");
}

struct experiment *experiment_new(struct experiments *all, const char *id, const char *run,
	const char *fault, const char *instance)
{
	struct experiment *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->all = all;
	e->target_fd = -1;
	e->created_ns = now_ns();
	e->id = strdup(id);
	e->run = strdup(run);
	e->fault_name = strdup(fault);
	e->instance_name = strdup(instance);
	if (!e->id || !e->run || !e->fault_name || !e->instance_name) {
		experiment_free(e);
		return NULL;
	}
	return e;
}

void experiment_free(struct experiment *e)
{
	if (!e)
		return;
	sd_event_source_disable_unref(e->duration_timer);
	sd_event_source_disable_unref(e->lease_timer);
	sd_event_source_disable_unref(e->retry_timer);
	sd_event_source_disable_unref(e->gone_timer);
	sd_event_source_disable_unref(e->target_watch);
	closep(&e->target_fd);
	free(e->id);
	free(e->run);
	free(e->fault_name);
	free(e->instance_name);
	instance_info_free(e->instance);
	params_free(e->params);
	undo_done(&e->undo);
	evidence_done(&e->evidence);
	free(e->error);
	free(e);
}

static void point(const struct experiment *e, const char *name)
{
	node_point(e->all->config.node, e->fault_name, name);
}

static void keep_error(struct experiment *e, const struct err *err)
{
	free(e->error);
	e->error = strdup(err_text(err));
}

static int journal_enter(struct experiment *e, struct err **err)
{
	struct journal_entry entry = {
		.experiment = e->id,
		.run = e->run,
		.fault = e->fault_name,
		.instance = e->instance_name,
		.postmaster = {e->postmaster.pid, e->postmaster.start_ticks},
		.boot_id = (char *)e->all->config.boot_id,
		.written_realtime_ns = realtime_ns(),
		.undo = e->undo.record,
	};

	return journal_write(e->all->config.journal, &entry, err);
}

static void driver_release(struct experiment *e)
{
	if (e->held)
		e->driver->release(&e->fault);
	e->held = false;
}

/* A refusal that leaves nothing; where that does not work, an experiment that is stuck. */
static int place_failed(struct experiment *e, int code, struct err **err)
{
	driver_release(e);
	if (e->driver->revert(&e->undo, NULL) < 0 || e->driver->verify_clean(&e->undo, NULL) < 0 ||
	    journal_remove(e->all->config.journal, e->id, NULL) < 0) {
		e->end_reason = END_FAILED;
		experiment_end(e, NULL);
	}
	return err_wrap(err, code, "arm %s on %s", e->fault_name, e->instance_name);
}

/* The driver, then the journal: nothing is in effect before the entry is on disk. */
static int experiment_take(struct experiment *e, struct err **err)
{
	int r;

	e->fault = (struct fault){
		.driver = e->driver,
		.node = e->all->config.node,
		.experiment = e->id,
		.instance = e->instance,
		.params = e->params,
		.duration_ns = e->duration_ms * NS_PER_MS,
		.lifetime = e->driver->spec->lifetime,
	};
	e->undo.spec = e->driver->spec;
	point(e, "arming");
	r = e->driver->arm(&e->fault, &e->undo, err);
	if (r < 0)
		return err_wrap(err, r, "arm %s on %s", e->fault_name, e->instance_name);
	e->held = true;
	if (!e->undo.record)
		e->undo.record = json_object();
	point(e, "armed-unjournaled");
	r = journal_enter(e, err);
	if (r < 0) {
		/* It may be there all the same, when only the folder's fsync failed. */
		journal_remove(e->all->config.journal, e->id, NULL);
		driver_release(e);
		return err_wrap(err, r, "refused, nothing is in effect: cannot keep the record of %s",
			e->fault_name);
	}
	if (e->driver->place) {
		r = e->driver->place(&e->fault, &e->undo, err);
		if (r < 0)
			return place_failed(e, r, err);
	}
	return 0;
}

/* FNV-1a. A request is not needed any more once it was answered, least of all if it was refused; what
 * is kept of it, its words in an error too, is bounded. */
static int digest_of(const struct arm_request *request, uint64_t *ret, struct err **err)
{
	_cleanup_json_ cJSON *body = arm_request_to_json(request);
	_cleanup_free_ char *text = json_print(body);
	uint64_t digest = 0xcbf29ce484222325;

	if (strlen(text) > REQUEST_MAX_BYTES)
		return err_set(err, EINVAL, "the request is longer than %d bytes", REQUEST_MAX_BYTES);
	for (const char *c = text; *c; c++)
		digest = (digest ^ (uint8_t)*c) * 0x100000001b3;
	*ret = digest ? digest : 1;
	return 0;
}

static int same_again(struct experiment *e, uint64_t request, struct experiment **ret, struct err **err)
{
	if (e->request != request)
		return err_set(err, EEXIST, "experiment %s is there already, for another request",
			e->id);
	if (e->state == EXPERIMENT_CLEAN)
		return err_set(err, EEXIST, "experiment %s has ended (%s): an id serves once", e->id,
			end_reason_to_string(e->end_reason));
	if (e->state == EXPERIMENT_REFUSED)
		return err_set(err, e->refusal, "%s", e->error ? e->error : "refused");
	*ret = e;
	return 0;
}

int experiment_arm(struct experiments *all, const struct arm_request *request,
	struct experiment **ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	struct experiment *e = NULL;
	uint64_t digest = 0;
	int r;

	if (!id_is_valid(request->experiment) || !id_is_valid(request->run))
		return err_set(err, EINVAL, "%s: an id is 1 to 64 of a-z, 0-9 and inner '-'",
			id_is_valid(request->experiment) ? "run" : "experiment");
	if (!request->fault || !request->instance)
		return err_set(err, EINVAL, "fault and instance must be given");
	r = digest_of(request, &digest, err);
	if (r < 0)
		return r;
	r = experiments_find(all, request->experiment, &e, NULL);
	if (r >= 0)
		return same_again(e, digest, ret, err);
	if (r == -ESTALE)
		return err_set(err, EEXIST, "experiment %s has ended: an id serves once",
			request->experiment);
	r = id_file_add(all->id_file, request->experiment, err);
	if (r < 0)
		return err_wrap(err, r, "refused, nothing is in effect: cannot keep the id of the experiment");
	e = experiment_new(all, request->experiment, request->run, request->fault,
		request->instance);
	if (!e)
		return err_set(err, ENOMEM, "no memory");
	e->request = digest;
	e->duration_ms = request->duration_ms;
	experiments_add(all, e);
	point(e, "new");
	r = experiment_admit(e, request, &why);
	if (r >= 0)
		r = experiment_clocks_new(e, &why);
	if (r >= 0)
		r = experiment_take(e, &why);
	if (r < 0) {
		e->refusal = r;
		if (e->state == EXPERIMENT_NEW) {
			keep_error(e, why);
			experiment_set_state(e, EXPERIMENT_REFUSED, err_text(why));
		}
		return err_set(err, r, "%s", err_text(why));
	}
	experiment_set_state(e, EXPERIMENT_ARMED, NULL);
	experiment_lease_start(e, request->lease_ms);
	point(e, "armed");
	*ret = e;
	return 0;
}

/* 0: may be fired now; 1: is active already. */
static int may_fire(struct experiment *e, struct err **err)
{
	const struct experiments_config *c = &e->all->config;

	if (e->state == EXPERIMENT_ACTIVE)
		return 1;
	if (e->state != EXPERIMENT_ARMED)
		return err_set(err, ESTALE, "experiment %s is %s (%s), not armed", e->id,
			experiment_state_to_string(e->state), end_reason_to_string(e->end_reason));
	if (e->all->lock_reason)
		return err_set(err, EBUSY, "experiment %s is not fired: %s", e->id,
			e->all->lock_reason);
	if (boot_ns() >= e->lease_end_boot_ns) {
		experiment_revert(e, END_LEASE, NULL);
		return err_set(err, ESTALE, "experiment %s: its lease ended before it was fired", e->id);
	}
	if (!proc_is_alive(&e->postmaster)) {
		experiment_revert(e, END_TARGET_GONE, NULL);
		return err_set(err, ESTALE, "experiment %s: postmaster %d of %s ended before it was fired",
			e->id, (int)e->postmaster.pid, e->instance_name);
	}
	return c->check_fire ? c->check_fire(e->instance_name, e->duration_ms, c->data, err) : 0;
}

int experiment_fire(struct experiment *e, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int r;

	r = may_fire(e, err);
	if (r != 0)
		return r < 0 ? r : 0;
	experiment_set_state(e, EXPERIMENT_FIRING, NULL);
	point(e, "firing");
	e->fired = true;
	e->fault.deadline_boot_ns = boot_ns() + e->fault.duration_ns;
	e->fired_ns = now_ns();
	r = e->driver->fire(&e->fault, &why);
	e->fire_duration_ns = now_ns() - e->fired_ns;
	point(e, "fired");
	if (r < 0) {
		keep_error(e, why);
		experiments_tell(e->all, "error", e, NULL, "fire %s on %s: %s", e->fault_name,
			e->instance_name, err_text(why));
		experiment_revert(e, END_FAILED, NULL);
		return err_set(err, r, "fire %s on %s: %s", e->fault_name, e->instance_name,
			err_text(why));
	}
	experiment_set_state(e, EXPERIMENT_ACTIVE, NULL);
	experiment_duration_start(e);
	point(e, "active");
	return 0;
}

int experiment_renew(struct experiment *e, uint64_t lease_ms, struct err **err)
{
	uint64_t max = e->all->config.limits->lease_max_ms;

	if (e->state != EXPERIMENT_ARMED && e->state != EXPERIMENT_FIRING &&
	    e->state != EXPERIMENT_ACTIVE)
		return err_set(err, ESTALE, "experiment %s is %s (%s): no lease to renew", e->id,
			experiment_state_to_string(e->state), end_reason_to_string(e->end_reason));
	if (lease_ms == 0)
		return err_set(err, EINVAL, "lease: must be above 0");
	if (lease_ms > max)
		return err_set(err, EPERM, "lease: %ju ms is above this agent's limit of %ju ms",
			(uintmax_t)lease_ms, (uintmax_t)max);
	experiment_lease_start(e, lease_ms);
	return 0;
}

static void observe(struct experiment *e)
{
	struct evidence seen = {0};
	_cleanup_err_ struct err *why = NULL;

	if (!e->held)
		return;
	if (e->driver->observe(&e->fault, &seen, &why) < 0) {
		keep_error(e, why);
		return;
	}
	evidence_done(&e->evidence);
	e->evidence = seen;
}

static int end_stuck(struct experiment *e, int code, struct err *why, struct err **err)
{
	bool news = !e->retrying || !e->error || strcmp(e->error, err_text(why)) != 0;

	keep_error(e, why);
	experiment_set_state(e, EXPERIMENT_STUCK, err_text(why));
	if (news)
		experiments_tell(e->all, "error", e, NULL,
			"STUCK: %s on %s could not be undone and is tried again: %s", e->fault_name,
			e->instance_name, err_text(why));
	experiment_retry_start(e);
	return err_set(err, code, "%s", err_text(why));
}

int experiment_end(struct experiment *e, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	int r;

	if (e->fired)
		observe(e);
	experiment_set_state(e, EXPERIMENT_REVERTING, end_reason_to_string(e->end_reason));
	point(e, "reverting");
	driver_release(e);
	point(e, "released");
	r = e->driver->revert ? e->driver->revert(&e->undo, &why) : 0;
	if (r < 0) {
		err_wrap(&why, r, "revert %s", e->fault_name);
		return end_stuck(e, r, why, err);
	}
	point(e, "reverted");
	experiment_set_state(e, EXPERIMENT_VERIFYING, NULL);
	point(e, "verifying");
	r = e->driver->verify_clean ? e->driver->verify_clean(&e->undo, &why) : 0;
	if (r < 0) {
		err_wrap(&why, r, "verify %s", e->fault_name);
		return end_stuck(e, r, why, err);
	}
	point(e, "verified");
	r = journal_remove(e->all->config.journal, e->id, &why);
	if (r < 0)
		return end_stuck(e, r, why, err);
	experiment_set_state(e, EXPERIMENT_CLEAN, end_reason_to_string(e->end_reason));
	point(e, "clean");
	return 0;
}

int experiment_revert(struct experiment *e, enum end_reason reason, struct err **err)
{
	switch (e->state) {
	case EXPERIMENT_ARMED:
	case EXPERIMENT_FIRING:
	case EXPERIMENT_ACTIVE:
		e->end_reason = reason;
		return experiment_end(e, err);
	case EXPERIMENT_STUCK:
		return experiment_end(e, err);
	default:
		return 0;
	}
}

static uint64_t remaining_ms(uint64_t end_boot_ns)
{
	uint64_t now = boot_ns();

	return end_boot_ns > now ? (end_boot_ns - now) / NS_PER_MS : 0;
}

struct experiment_info *experiment_describe(struct experiment *e)
{
	struct experiment_info *i = calloc(1, sizeof(*i));
	bool leased = e->state == EXPERIMENT_ARMED || e->state == EXPERIMENT_FIRING ||
		      e->state == EXPERIMENT_ACTIVE;

	if (!i)
		return NULL;
	if (e->state == EXPERIMENT_ACTIVE)
		observe(e);
	i->experiment = strdup(e->id);
	i->run = strdup(e->run);
	i->fault = strdup(e->fault_name);
	i->instance = strdup(e->instance_name);
	i->state = e->state;
	i->end_reason = e->end_reason;
	i->params = e->params ? params_to_json(e->params) : NULL;
	i->mechanism = e->fault.mechanism ? strdup(e->fault.mechanism) : NULL;
	if (e->driver)
		i->lifetime = strdup(lifetime_to_string(
			e->fault.mechanism ? e->fault.lifetime : e->driver->spec->lifetime));
	i->created_ns = e->created_ns;
	i->armed_ns = e->armed_ns;
	i->fired_ns = e->fired_ns;
	i->fire_duration_ns = e->fire_duration_ns;
	i->reverted_ns = e->reverted_ns;
	i->verified_ns = e->verified_ns;
	if (e->state == EXPERIMENT_ARMED)
		i->remaining_ms = e->duration_ms;
	else if (e->state == EXPERIMENT_ACTIVE)
		i->remaining_ms = remaining_ms(e->fault.deadline_boot_ns);
	i->lease_remaining_ms = leased ? remaining_ms(e->lease_end_boot_ns) : 0;
	i->hits = e->evidence.hits;
	i->evidence = e->evidence.detail ? cJSON_Duplicate(e->evidence.detail, true) : NULL;
	i->verified_clean = e->state == EXPERIMENT_CLEAN;
	i->error = e->error ? strdup(e->error) : NULL;
	return i;
}
