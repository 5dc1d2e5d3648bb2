/*
 * An agent that is gone leaves a node that somebody else has to say is clean: its successor, which a service
 * manager or a DaemonSet starts. At its start, before it listens, that has reverted what the journal held; what
 * the journal does not hold had been found clean, or was held by the process that is gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/wire.h"
#include "kubernetes/agents.h"
#include "run/run.h"

#define LOOK_EVERY_NS (500 * NS_PER_MS)
#define WAIT_NS (30 * NS_PER_S)
/* A pod is deleted, scheduled and started besides. */
#define WAIT_POD_NS (60 * NS_PER_S)

static bool waits_for(const struct run *r, const struct agent_link *link)
{
	if (!run_agent_is_lost(r, link))
		return false;
	for (size_t i = 0; i < r->n_experiments; i++)
		if (r->experiments[i]->link == link && run_may_be_left(r->experiments[i]))
			return true;
	return false;
}

/* Those of the session whose successor is looked for. Returns how many. */
static size_t lost_links(const struct run *r, struct agent_link **list)
{
	size_t n = 0;

	for (size_t i = 0; i < r->session->n_links; i++)
		if (waits_for(r, r->session->links[i]))
			list[n++] = r->session->links[i];
	return n;
}

static void set_clean(struct run *r, struct run_experiment *e, bool verified)
{
	e->state = EXPERIMENT_CLEAN;
	e->ended = true;
	r->record->faults[e->fault].verified_clean = verified;
}

/* ---- an agent of our own ---- */

/* Returns whether there is another one on its socket by now, which is to be asked as any successor. */
static bool replay_journal(struct run *r)
{
	_cleanup_err_ struct err *err = NULL;
	int status;

	/* The descriptor that it watches is closed with the agent. */
	r->agent_death = sd_event_source_disable_unref(r->agent_death);
	local_agent_stop(steal_ptr(r->session->local));
	if (local_agent_ensure(AGENT_SOCKET_DEFAULT, &r->session->local, &err) < 0) {
		run_note(r, EVENT_AGENT, -1, "replay", "no new agent: %s", err_text(err));
		return false;
	}
	if (!r->session->local)
		return true;
	status = local_agent_stop(steal_ptr(r->session->local));
	run_note(r, EVENT_AGENT, -1, "replay",
		status ? "a new agent could not revert all of the journal" :
			 "a new agent found the journal and left the node clean");
	for (size_t i = 0; !status && i < r->n_experiments; i++)
		if (run_may_be_left(r->experiments[i]))
			set_clean(r, r->experiments[i], true);
	return false;
}

/* ---- one that somebody else starts ---- */

/* A DaemonSet's new pod has another address. */
static void follow_pods(struct run *r, struct agent_link *const *links, size_t n)
{
	struct kube_agents agents = {0};

	if (!r->session->discovered ||
		kube_agents_list(r->session->kube, r->session->agents_namespace, &agents, NULL) < 0)
		return;
	for (size_t i = 0; i < agents.count; i++)
		for (size_t k = 0; k < n; k++)
			if (agents.items[i].url &&
				strcmp(agents.items[i].node, agent_link_name(links[k])) == 0)
				agent_link_move(links[k], agents.items[i].url);
	kube_agents_done(&agents);
}

/* A node takes no faults while something is left there; or while the kill switch is on, of which nothing is
 * left either. */
static bool is_clean(const struct node_info *node)
{
	static const char locked[] = "the kill switch";

	return node->accepting || (node->reason && strncmp(node->reason, locked, strlen(locked)) == 0);
}

/* It has nothing of it, or remembers no more of it than that it has ended. */
static bool has_nothing(const struct agent_reply *reply)
{
	return reply->err->code == -ENOENT || reply->err->code == -ESTALE;
}

/* What it says of one of our experiments. Returns whether that is all over. */
static bool take_word(struct run *r, struct run_experiment *e, const struct node_info *node,
	const struct agent_reply *reply)
{
	struct fault_run *f = &r->record->faults[e->fault];

	e->revert_pending = e->fire_pending = false;
	if (!reply->err) {
		run_take_info(r, e, reply->experiments[0]);
	} else if (has_nothing(reply) && is_clean(node)) {
		set_clean(r, e, true);
	} else {
		free(f->error);
		f->error = strdup(has_nothing(reply) && node->reason ? node->reason : reply->err->text);
	}
	return !run_may_be_left(e);
}

static bool may_be_left(const struct run *r, const struct run_experiment *e)
{
	(void)r;
	return run_may_be_left(e);
}

/* An agent that was started anew knows of ours what its journal had. */
static bool remembers(const struct agent_reply *reply)
{
	return !reply->err && reply->experiments[0]->end_reason != END_REPLAY;
}

/* Asked to revert what it may have: what is over already stays so. */
static void ask_successor(struct run *r, struct agent_link *link, const struct node_info *node)
{
	struct agent_replies replies;
	struct run_selection s;
	bool over = true, same = false;
	const char *who;

	run_select(r, link, may_be_left, &s);
	for (size_t i = 0; i < s.count; i++)
		s.experiments[i]->let_go = true;
	agent_ask_revert(s.links, s.ids, s.count, &replies);
	for (size_t i = 0; i < s.count; i++) {
		over &= take_word(r, s.experiments[i], node, &replies.items[i]);
		same |= remembers(&replies.items[i]);
	}
	agent_replies_done(&replies);
	run_selection_done(&s);
	if (!over)
		return;
	/* It was out of reach for a while. */
	who = same ? "answers again, and" : "was replaced; its successor";
	run_note(r, EVENT_AGENT, -1, same ? "back" : "replaced", "the agent on %s %s reports nothing left",
		node->name, who);
	run_abort_more(r, "the agent on %s %s reports nothing left", node->name, who);
}

static void look(struct run *r)
{
	_cleanup_free_ struct agent_link **links = calloc(r->session->n_links + 1,
		sizeof(struct agent_link *));
	struct agent_replies replies;
	size_t n;

	if (!links)
		abort();
	n = lost_links(r, links);
	follow_pods(r, links, n);
	agent_ask_nodes(links, n, &replies);
	for (size_t i = 0; i < n; i++)
		/* An address may be another pod's by now. */
		if (replies.items[i].node && strcmp(replies.items[i].node->name, agent_link_name(links[i])) == 0)
			ask_successor(r, links[i], replies.items[i].node);
	agent_replies_done(&replies);
}

/* Where nobody listens on a socket of this host, the process is gone, and what it held with it. */
static bool ended_with_agent(const struct run *r, const struct run_experiment *e)
{
	const char *path = agent_link_socket(e->link), *lifetime = r->record->faults[e->fault].lifetime;
	bool answers = true;

	return path && local_agent_answers(path, &answers, NULL) >= 0 && !answers && lifetime &&
		strcmp(lifetime, lifetime_to_string(LIFETIME_HELD)) == 0;
}

static bool all_ended_with_agents(const struct run *r)
{
	for (size_t i = 0; i < r->n_experiments; i++)
		if (run_may_be_left(r->experiments[i]) && !ended_with_agent(r, r->experiments[i]))
			return false;
	return true;
}

void run_find_successors(struct run *r)
{
	_cleanup_free_ struct agent_link **links = calloc(r->session->n_links + 1,
		sizeof(struct agent_link *));
	uint64_t limit = r->session->discovered ? WAIT_POD_NS : WAIT_NS;
	uint64_t end = now_ns() + limit, next = 0;

	if (!links)
		abort();
	if (r->session->local && !replay_journal(r))
		return;
	if (lost_links(r, links))
		run_note(r, EVENT_AGENT, -1, "successor",
			"asking who comes after it what became of its faults, for at most %u s",
			(unsigned)(limit / NS_PER_S));
	while (lost_links(r, links) && !r->hurry && now_ns() < end && !all_ended_with_agents(r)) {
		if (now_ns() >= next) {
			look(r);
			next = now_ns() + LOOK_EVERY_NS;
		}
		if (run_turn(r, 20 * NS_PER_MS, NULL) < 0)
			break;
	}
	for (size_t i = 0; i < r->n_experiments; i++)
		if (waits_for(r, r->experiments[i]->link) && ended_with_agent(r, r->experiments[i]))
			set_clean(r, r->experiments[i], false);
}
