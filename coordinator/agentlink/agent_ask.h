/*
 * The same question to many agents at the same time: all are asked before the first answer is waited for, each
 * has its own time limit, and what one of them does not answer is known of that one alone. These run the loop.
 */
#pragma once

#include "agentlink/agent_link.h"

struct agent_reply {
	struct agent_link *link;	/* borrowed */
	struct err *err;		/* NULL: it answered; -EPROTO: with what cannot be read */
	struct node_info *node;
	struct instance_info **instances;
	struct experiment_info **experiments;
	size_t count;			/* of these */
	size_t left;			/* of a revert: what could not be reverted */
};

struct agent_replies {
	struct agent_reply *items;	/* in the order of the links */
	size_t count;
};
void agent_replies_done(struct agent_replies *r);
/* The first failure, in the order of the links; 0: all answered. */
int agent_replies_check(const struct agent_replies *r, struct err **err);

/* Each makes *ret, whatever the agents answer. */
void agent_ask_nodes(struct agent_link *const *links, size_t n, struct agent_replies *ret);
void agent_ask_instances(struct agent_link *const *links, size_t n, struct agent_replies *ret);
void agent_ask_experiments(struct agent_link *const *links, size_t n, struct agent_replies *ret);
/* To revert what is there: what each one tells of it is in experiments. */
void agent_ask_revert_all(struct agent_link *const *links, size_t n, struct agent_replies *ret);
/* Of one experiment each: it is experiments[0]. */
void agent_ask_arm(struct agent_link *const *links, const struct arm_request *requests, size_t n,
	struct agent_replies *ret);
void agent_ask_get(struct agent_link *const *links, const char *const *experiments, size_t n,
	struct agent_replies *ret);
void agent_ask_revert(struct agent_link *const *links, const char *const *experiments, size_t n,
	struct agent_replies *ret);
/* Not asked but measured; the best of so many round trips each. */
void agent_ask_clocks(struct agent_link *const *links, size_t n, unsigned rounds,
	struct agent_replies *ret);
