/*
 * Who has which instances of a cluster under fault: claims, one an instance whatever the number of its
 * faults, in an annotation of a Lease (coordination.k8s.io/v1) of the cluster's. A Lease, so that no agent needs a
 * right over ConfigMaps, of which the kill switch is one; the annotation, since a Lease by itself has one holder.
 *
 *   pgjolt.io/claims: {"shop/orders-0": {"node": "one", "until": "2026-01-31T12:00:00Z"}}
 *
 * A claim lasts for as long as its fault could without a word of anybody, so that one of a dead agent ends by itself.
 * Ends are by the nodes' clocks, with CLAIM_SLACK_S for their difference.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "core/json.h"

#define CLAIM_SLACK_S 30

struct claim {
	char *instance, *node;
	int64_t until_s;	/* since 1970 */
};

struct claims {
	struct claim *items;
	size_t count;
};
void claims_done(struct claims *c);

/* lease NULL, or without the annotation: none. -EBADMSG: it is no such list; who cannot read it cannot count. */
int claims_read(const cJSON *lease, struct claims *ret, struct err **err);
/* "shop/orders", as the Lease says; NULL: it does not. Borrowed. */
const char *claims_cluster(const cJSON *lease);
/* A Lease with these claims, for POST. */
cJSON *claims_lease_new(const char *namespace, const char *name, const char *cluster, const struct claims *c);
/* The same Lease (its resourceVersion too) with these claims, for PUT. */
cJSON *claims_lease_with(const cJSON *lease, const struct claims *c);

/* Drops what has ended. Returns how many. */
size_t claims_expire(struct claims *c, int64_t now_s);
/* The instance is node's until then at least; each returns whether that changed anything. */
bool claims_put(struct claims *c, const char *instance, const char *node, int64_t until_s);
bool claims_drop(struct claims *c, const char *instance, const char *node);
/* NULL: there is none. Borrowed until the next change. */
const struct claim *claims_find(const struct claims *c, const char *instance);
/* "shop/orders-0 on node one until 2026-01-31T12:00:00Z", and how many more; caller frees. NULL: none. */
char *claims_words(const struct claims *c);
