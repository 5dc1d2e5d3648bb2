/* The agents' streams of events: which experiment is to be asked for anew, and whether an agent is gone. */
#include <stdlib.h>
#include <string.h>

#include "run/run.h"

/* The events of one agent. */
struct run_follower {
	struct run *run;
	struct agent_link *link;
	char *broken_why;	/* the stream ended; looked into by run_check_agents() */
};

/* Whatever it does to the cluster is in our figures too. */
static void note_foreign(const struct run_follower *f, const struct agent_event *event,
	const struct run_experiment *e)
{
	struct run *r = f->run;
	int instance = event->instance ? run_instance_index(r, event->instance) : -1;

	if (!r->probes || e || instance < 0 || !event->experiment || !event->state ||
		agent_link_to_local_ns(f->link, event->at_ns, NULL) <= r->record->started_ns ||
		strcmp(event->state, experiment_state_to_string(EXPERIMENT_ACTIVE)) != 0)
		return;
	run_note(r, EVENT_NOTE, instance, "foreign",
		"experiment %s, which is not of this run, is active on %s", event->experiment,
		event->instance);
}

static void on_agent_event(const struct agent_event *event, void *data)
{
	struct run_follower *f = data;
	struct run_experiment *e = run_experiment_find(f->run, event->experiment);

	if (e && event->state)
		e->stale = true;
	note_foreign(f, event, e);
	/* `pgjolt stop --all`: meant for what is to come of this drill too. Older events are told again
	 * to every new follower. */
	if (f->run->probes && event->at_ns > f->run->record->started_ns && event->kind &&
		strcmp(event->kind, "audit") == 0 && event->text &&
		strstr(event->text, ": revert all: 200"))
		run_abort(f->run, "everything was told to stop (pgjolt stop --all)");
}

static void on_stream_end(const char *why, void *data)
{
	struct run_follower *f = data;

	free(f->broken_why);
	f->broken_why = strdup(why);
}

/* Every experiment of ours on this agent that has not ended. */
static bool agent_knows_ours(struct run *r, struct agent_link *link)
{
	for (size_t i = 0; i < r->n_experiments; i++) {
		_cleanup_(experiment_info_freep) struct experiment_info *info = NULL;
		struct run_experiment *e = r->experiments[i];

		if (e->link == link && !e->ended && agent_link_get(link, e->id, &info, NULL) < 0)
			return false;
	}
	return true;
}

/* A stream can break while its agent lives on; an agent that was started anew knows nothing of us. */
static bool follow_again(struct run *r, struct run_follower *f)
{
	_cleanup_(node_info_freep) struct node_info *node = NULL;

	if (agent_link_node(f->link, &node, NULL) < 0 || !agent_knows_ours(r, f->link) ||
		agent_link_follow(f->link, on_agent_event, on_stream_end, f, NULL) < 0)
		return false;
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->link == f->link)
			r->experiments[i]->stale = true;
	return true;
}

void run_check_agents(struct run *r)
{
	for (size_t i = 0; r->followers && i < r->session->n_links && !r->agent_lost; i++) {
		struct run_follower *f = &r->followers[i];
		_cleanup_free_ char *why = steal_ptr(f->broken_why);

		if (!why || follow_again(r, f) || r->agent_lost)
			continue;
		r->agent_lost = true;
		run_note(r, EVENT_AGENT, -1, "lost",
			"agent %s is gone (%s); what it held ended with it",
			agent_link_name(f->link), why);
		run_abort(r, "agent %s is gone: %s", agent_link_name(f->link), why);
	}
}

int run_follow_agents(struct run *r, struct err **err)
{
	r->followers = calloc(r->session->n_links, sizeof(*r->followers));
	if (!r->followers)
		abort();
	for (size_t i = 0; i < r->session->n_links; i++) {
		struct run_follower *f = &r->followers[i];
		int k;

		*f = (struct run_follower){.run = r, .link = r->session->links[i]};
		k = agent_link_follow(f->link, on_agent_event, on_stream_end, f, err);
		if (k < 0)
			return k;
	}
	return 0;
}

void run_unfollow_agents(struct run *r)
{
	for (size_t i = 0; r->followers && i < r->session->n_links; i++) {
		agent_link_unfollow(r->session->links[i]);
		free(r->followers[i].broken_why);
	}
	free(steal_ptr(r->followers));
}
