/*
 * The share of a cluster that may be under fault at once, kept across the nodes' agents, of which each sees its own node
 * alone: before a fault is armed its instance is claimed in the cluster's ConfigMap (claims.h), changed by its
 * resourceVersion, so that two agents cannot both take the last place. All on the loop, nothing waits.
 *
 * A claim outlasts its instance's faults; it is given back once they have ended, as soon as the API server takes that, and
 * prolonged before an armed one could outlast it. What a dead agent claimed ends by itself, or is given
 * back by the next agent of its node.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include "core/err.h"
#include "core/json.h"

struct kube;
struct shares;
struct share_claim;

#define SHARE_LABEL	  "app.kubernetes.io/component"
#define SHARE_LABEL_VALUE "share"

struct shares_world {
	sd_event *event;
	struct kube *kube;
	const char *namespace;	/* the agents' */
	const char *node;
	/* How long the faults on that instance may go on at most; 0: it has none. */
	uint64_t (*busy_ms)(const char *instance, void *data);
	void (*tell_error)(void *data, const char *words);
	void *data;
};

/* What world points to is borrowed. Gives back at once what an earlier agent of the node claimed, but for instances that
 * still have a fault of its. */
int shares_new(const struct shares_world *world, struct shares **ret, struct err **err);
/* Those who wait are told that the agent stops. Claims that are held stay. */
void shares_free(struct shares *s);

struct share_ask {
	const char *instance, *cluster;	/* "shop/orders-0", "shop/orders" */
	const cJSON *pod;		/* its own */
	uint32_t bound_ppm;
	const char *bound_words;	/* "50%, by this agent's --max-share" */
	uint64_t last_ms;		/* how long the fault may last, from now on */
};

/* claim NULL: refused, r is -EBUSY (no place left), or another errno: it could not be found out. words: what
 * counted, in both cases; borrowed. */
typedef void (*share_done)(struct share_claim *claim, int r, const char *words, void *data);
/* done is called once, within or later from the loop. ask is not kept. */
void shares_take(struct shares *s, const struct share_ask *ask, share_done done, void *data);
/* The fault was armed, or was not after all. NULL: nothing. */
void shares_settle(struct shares *s, struct share_claim *claim);
/* Is one being armed there, under a claim? */
bool shares_is_claimed(const struct shares *s, const char *instance);
/* May a fault be fired that lasts so long? -EBUSY: the claim would end before it. 0 also where none is there. */
int shares_check_fire(const struct shares *s, const char *instance, uint64_t last_ms, struct err **err);
/* Faults have ended: looks what may be given back, soon. */
void shares_look(struct shares *s);
/* Is anything claimed still, by what the API server has told? */
bool shares_are_held(const struct shares *s);
