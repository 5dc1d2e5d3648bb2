/*
 * Who has which instances of a cluster under fault: claims, one an instance whatever the number of its
 * faults, in a ConfigMap of the cluster's in the agents' namespace. No Lease: who drills holds run locks, and so may
 * change every Lease there; of ConfigMaps it may create any, but change none but the kill switch.
 *
 *   claims: {"shop/orders-0": {"node": "one", "until": "2026-01-31T12:00:00Z"}}
 *
 * A claim lasts for as long as its fault could without a word of anybody, so that one of a dead agent ends by itself.
 * Ends are by the nodes' clocks, with CLAIM_SLACK_S for their difference.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/json.h"

#define CLAIM_SLACK_S 30
#define CLAIMS_PREFIX "pgjolt-share-"	/* of its name, before "shop.orders" */

struct claim {
	char *instance, *node;
	int64_t until_s;	/* since 1970 */
};

struct claims {
	struct claim *items;
	size_t count;
};
void claims_done(struct claims *c);

/* map NULL: none. -EBADMSG: an agent has not made it so, and who cannot read it cannot count. */
int claims_read(const cJSON *map, struct claims *ret, struct err **err);
/* "shop/orders", as the ConfigMap says; NULL: it does not, or another than its name's. Borrowed. */
const char *claims_cluster(const cJSON *map);
/* The ConfigMap with these claims: for POST, or for PUT in the place of that one, of which nothing else is kept. */
cJSON *claims_map(const char *namespace, const char *name, const char *cluster, const struct claims *c,
	const cJSON *before);

/* Drops what has ended. Returns how many. */
size_t claims_expire(struct claims *c, int64_t now_s);
/* The instance is node's until then at least; each returns whether that changed anything. */
bool claims_put(struct claims *c, const char *instance, const char *node, int64_t until_s);
bool claims_drop(struct claims *c, const char *instance, const char *node);
/* NULL: there is none. Borrowed until the next change. */
const struct claim *claims_find(const struct claims *c, const char *instance);
/* "shop/orders-0 on node one until 2026-01-31T12:00:00Z", and how many more; caller frees. NULL: none. */
char *claims_words(const struct claims *c);
