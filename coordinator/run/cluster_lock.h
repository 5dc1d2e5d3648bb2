/*
 * One drill at a time on a cluster in Kubernetes, whichever pods the coordinators run in: a Lease
 * (coordination.k8s.io/v1) in the agents' namespace, "pgjolt-run-NAMESPACE.CLUSTER", renewed while the
 * run goes on. Freshness is judged by the Lease changing before our eyes, not by clocks: drills skew
 * these.
 */
#pragma once

#include "session.h"

struct cluster_lock;

/* lost(why, data): another coordinator has it now, or somebody removed it. Not called for an API server
 * that is away: then nobody else gets it either. -EBUSY names the holder; what a dead one left is
 * taken over after its time, which runs the loop. *ret NULL: no Kubernetes, nothing to lock. */
int cluster_lock_take(struct session *s, const char *cluster, const char *run,
	void (*lost)(const char *why, void *data), void *data, struct cluster_lock **ret,
	struct err **err);
/* Gives it back, if it is still ours. Runs the loop, 10 s at most. */
void cluster_lock_release(struct cluster_lock *l);
