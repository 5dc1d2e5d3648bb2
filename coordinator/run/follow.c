/* The agents' streams of events: which experiment is to be asked for anew, and whether an agent is gone. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "run/run.h"

#define CLOCKS_EVERY_NS (30 * NS_PER_S)
#define CLOCK_ROUNDS 8

/* The events of one agent. */
struct run_follower {
	struct run *run;
	struct agent_link *link;
	char *broken_why;	/* the stream ended; looked into by run_check_agents() */
	bool lost;		/* its agent is gone */
};

static struct run_follower *follower_of(const struct run *r, const struct agent_link *link)
{
	for (size_t i = 0; r->followers && i < r->session->n_links; i++)
		if (r->followers[i].link == link)
			return &r->followers[i];
	return NULL;
}

bool run_agent_is_lost(const struct run *r, const struct agent_link *link)
{
	const struct run_follower *f = r->agent_lost ? follower_of(r, link) : NULL;

	return f && f->lost;
}

void run_agent_lost(struct run *r, struct agent_link *link, const char *why)
{
	struct run_follower *f = follower_of(r, link);

	if (!f || f->lost)
		return;
	f->lost = true;
	r->agent_lost = true;
	run_note(r, EVENT_AGENT, -1, "lost", "agent %s is gone (%s); what it held ended with it, or ends with its lease",
		agent_link_name(link), why);
	run_abort(r, "agent %s is gone: %s", agent_link_name(link), why);
}

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

static bool goes_on(const struct run *r, const struct run_experiment *e)
{
	(void)r;
	return !e->ended;
}

/* Every experiment of ours on this agent that has not ended: one that was started anew has reverted them. */
static bool agent_has_ours(struct run *r, struct agent_link *link)
{
	struct agent_replies replies;
	struct run_selection s;
	bool all = true;

	run_select(r, link, goes_on, &s);
	agent_ask_get(s.links, s.ids, s.count, &replies);
	for (size_t i = 0; i < s.count; i++)
		all = all && !replies.items[i].err &&
			replies.items[i].experiments[0]->end_reason != END_REPLAY;
	agent_replies_done(&replies);
	run_selection_done(&s);
	return all;
}

/* A stream can break while its agent lives on; an agent that was started anew knows nothing of us. */
static bool follow_again(struct run *r, struct run_follower *f)
{
	if (!agent_has_ours(r, f->link) ||
		agent_link_follow(f->link, on_agent_event, on_stream_end, f, NULL) < 0)
		return false;
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->link == f->link)
			r->experiments[i]->stale = true;
	return true;
}

void run_check_agents(struct run *r)
{
	size_t n_links = r->session->n_links, n = 0;
	_cleanup_free_ struct agent_link **links = NULL;
	struct agent_replies replies;

	for (size_t i = 0; r->followers && i < n_links; i++)
		n += r->followers[i].broken_why && !r->followers[i].lost;
	if (!n)
		return;
	links = calloc(n, sizeof(struct agent_link *));
	if (!links)
		abort();
	n = 0;
	for (size_t i = 0; i < n_links; i++)
		if (r->followers[i].broken_why && !r->followers[i].lost)
			links[n++] = r->followers[i].link;
	agent_ask_nodes(links, n, &replies);
	for (size_t i = 0; i < n; i++) {
		struct run_follower *f = follower_of(r, links[i]);
		_cleanup_free_ char *why = steal_ptr(f->broken_why);

		if (replies.items[i].err || !follow_again(r, f))
			run_agent_lost(r, f->link, why ? why : "it ended its stream of events");
	}
	agent_replies_done(&replies);
}

/* ---- clocks ---- */

static int on_clock_timer(sd_event_source *s, uint64_t usec, void *data)
{
	struct run *r = data;

	(void)usec;
	/* Of an agent of this host it is one clock. One that does not answer keeps its old offset. */
	for (size_t i = 0; i < r->session->n_links; i++)
		if (!agent_link_socket(r->session->links[i]))
			agent_link_clock_start(r->session->links[i], CLOCK_ROUNDS, NULL, NULL, NULL);
	sd_event_source_set_time_relative(s, CLOCKS_EVERY_NS / NS_PER_US);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int run_follow_agents(struct run *r, struct err **err)
{
	int k = sd_event_add_time_relative(r->session->event, &r->clocking, CLOCK_MONOTONIC,
		CLOCKS_EVERY_NS / NS_PER_US, 1, on_clock_timer, r);

	if (k < 0)
		return err_errno(err, k, "event loop");
	r->followers = calloc(r->session->n_links, sizeof(*r->followers));
	if (!r->followers)
		abort();
	for (size_t i = 0; i < r->session->n_links; i++)
		r->followers[i] = (struct run_follower){.run = r, .link = r->session->links[i]};
	for (size_t i = 0; k >= 0 && i < r->session->n_links; i++)
		k = agent_link_follow(r->session->links[i], on_agent_event, on_stream_end,
			&r->followers[i], err);
	return k;
}

void run_unfollow_agents(struct run *r)
{
	sd_event_source_disable_unref(steal_ptr(r->clocking));
	for (size_t i = 0; r->followers && i < r->session->n_links; i++) {
		agent_link_unfollow(r->session->links[i]);
		free(r->followers[i].broken_why);
	}
	free(steal_ptr(r->followers));
}
