/* Arming: on all the targets of a step at the same time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "run/peers.h"
#include "run/run.h"

static struct run_experiment *add_experiment(struct run *r, const struct step *s,
	const struct target *t, cJSON *params, char **peers)
{
	struct run_experiment *e;
	struct fault_run *f;

	r->experiments = reallocarray(r->experiments, r->n_experiments + 1, sizeof(e));
	e = malloc(sizeof(*e));
	if (!r->experiments || !e)
		abort();
	r->experiments[r->n_experiments++] = e;
	*e = (struct run_experiment){.step = s, .link = t->link, .fault = r->record->n_faults};
	if (asprintf(&e->id, "%s-%u", r->record->run, ++r->next_experiment) < 0)
		abort();
	r->record->faults = reallocarray(r->record->faults, r->record->n_faults + 1,
		sizeof(*r->record->faults));
	if (!r->record->faults)
		abort();
	f = &r->record->faults[r->record->n_faults++];
	*f = (struct fault_run){
		.experiment = strdup(e->id),
		.fault = strdup(s->fault->name),
		.step = s->name ? strdup(s->name) : NULL,
		.instance = run_instance_index(r, t->info->name),
		.params = params,
		.peers_resolved = peers,
		.may_miss = s->may_miss,
	};
	return e;
}

/* The step's parameters with peers resolved for this target. */
static int resolve_params(struct run *r, const struct step *s, const struct target *t, cJSON **ret,
	char ***ret_peers, struct err **err)
{
	_cleanup_json_ cJSON *params = s->params ? cJSON_Duplicate(s->params, true) : json_object();
	_cleanup_strv_ char **names = NULL, **peers = NULL;
	const char *key = s->fault->peers_param;
	int k = 0;

	if (key && json_get(params, key)) {
		k = json_to_strv(json_get(params, key), &names, err);
		if (k >= 0)
			k = peers_resolve(&r->cluster, t, names, &peers, err);
		if (k < 0)
			return k;
		cJSON_DeleteItemFromObjectCaseSensitive(params, key);
		json_add_strv(params, key, peers);
	}
	*ret = steal_ptr(params);
	*ret_peers = steal_ptr(peers);
	return 0;
}

static void note_refused(struct run *r, struct run_experiment *e, const struct err *why)
{
	e->ended = true;
	e->state = EXPERIMENT_REFUSED;
	r->record->faults[e->fault].error = strdup(why->text);
}

/* An answer that was lost, or that cannot be read, may have been a yes. */
static bool is_unanswered(const struct err *why)
{
	return why->code == -ETIMEDOUT || why->code == -ECONNRESET || why->code == -ECANCELED ||
		why->code == -EPROTO || why->code == -EFBIG;
}

static int take_armed(struct run *r, struct run_experiment *e, const struct target *t,
	const struct agent_reply *reply, struct err **err)
{
	const char *fault = e->step->fault->name;

	if (!reply->err) {
		run_take_info(r, e, reply->experiments[0]);
		run_note(r, EVENT_ARMED, r->record->faults[e->fault].instance, fault,
			"%s armed on %s", fault, t->info->name);
		return 0;
	}
	if (is_unanswered(reply->err)) {
		/* Whether it was armed is for the revert to find out. */
		e->state = EXPERIMENT_ARMED;
		return err_set(err, -EIO, "%s on %s: the agent did not answer: %s", fault, t->info->name,
			reply->err->text);
	}
	note_refused(r, e, reply->err);
	return err_set(err, reply->err->code, "%s on %s: %s", fault, t->info->name, reply->err->text);
}

static struct arm_request request_of(const struct run *r, const struct run_experiment *e,
	const struct target *t)
{
	return (struct arm_request){
		.experiment = e->id,
		.run = r->record->run,
		.fault = (char *)e->step->fault->name,
		.instance = t->info->name,
		.pid = t->info->pid,
		.start_ticks = t->info->start_ticks,
		.params = r->record->faults[e->fault].params,
		.duration_ms = (e->step->duration_ns + NS_PER_MS - 1) / NS_PER_MS,
		.lease_ms = RUN_LEASE_MS,
	};
}

/* Those of list that are NULL yet. -ESTALE: these stay so, and that is all that went wrong. */
static int arm_missing(struct run *r, const struct step *s, const struct target *const *targets,
	size_t n, struct run_experiment **list, struct err **err)
{
	_cleanup_free_ struct agent_link **links = calloc(n + 1, sizeof(struct agent_link *));
	_cleanup_free_ struct arm_request *requests = calloc(n + 1, sizeof(*requests));
	_cleanup_free_ size_t *which = calloc(n + 1, sizeof(*which));
	struct agent_replies replies;
	size_t asked = 0;
	int result = 0, k = 0;

	if (!links || !requests || !which)
		abort();
	for (size_t i = 0; k >= 0 && i < n; i++) {
		cJSON *params;
		char **peers;

		if (list[i])
			continue;
		k = resolve_params(r, s, targets[i], &params, &peers, err);
		if (k < 0)
			break;
		list[i] = add_experiment(r, s, targets[i], params, peers);
		list[i]->renewed_ns = now_ns();
		which[asked] = i;
		links[asked] = targets[i]->link;
		requests[asked++] = request_of(r, list[i], targets[i]);
	}
	if (k < 0) {
		const struct err not_sent = {k, (char *)"not armed, since another one could not be", 0};

		for (size_t i = 0; i < asked; i++)
			note_refused(r, list[which[i]], &not_sent);
		return k;
	}
	agent_ask_arm(links, requests, asked, &replies);
	for (size_t i = 0; i < asked; i++) {
		struct run_experiment **e = &list[which[i]];

		k = take_armed(r, *e, targets[which[i]], &replies.items[i],
			result < 0 && result != -ESTALE ? NULL : err);
		if (k == -ESTALE)
			*e = NULL;
		if (k < 0 && (result >= 0 || result == -ESTALE))
			result = k;
	}
	agent_replies_done(&replies);
	return result;
}

int run_arm(struct run *r, const struct step *s, struct run_experiment ***ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_free_ const struct target **targets = NULL;
	_cleanup_free_ struct run_experiment **list = NULL;
	size_t n = 0;
	int k = cluster_refresh(&r->cluster, err);

	if (k >= 0)
		k = run_pick(r, &s->target, &targets, &n, err);
	list = calloc(n + 1, sizeof(struct run_experiment *));
	if (!list)
		abort();
	if (k >= 0)
		k = arm_missing(r, s, targets, n, list, err);
	/* Postmasters restart: what was found a moment ago may be another process now. */
	if (k == -ESTALE && cluster_refresh(&r->cluster, NULL) >= 0)
		k = arm_missing(r, s, targets, n, list, err);
	/* That is what a wait says whose limit is over, which fails the drill. */
	if (k == -ETIMEDOUT)
		k = -EIO;
	if (k < 0)
		return err_wrap(err, k, "%s:%u:%u", r->drill->file, s->place.line, s->place.column);
	*ret = steal_ptr(list);
	*ret_count = n;
	return 0;
}
