/*
 * What the agent knows from the Kubernetes API: labels and owners of the node's pods, namespaces that opted
 * in, the kill switch. All by watches, so that nothing waits; what is known stays while the API
 * server is away. Instances are found without any of it.
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"
#include "core/wire.h"
#include "kubeapi/share.h"

struct agent;
struct kube;
struct kubernetes;

/* As agent->config.kubernetes says. The kill switch counts as on until it was read once. */
int kubernetes_new(struct agent *agent, struct kubernetes **ret, struct err **err);
void kubernetes_free(struct kubernetes *k);

struct kube *kubernetes_api(const struct kubernetes *k);
/* The agents' own. */
const char *kubernetes_namespace(const struct kubernetes *k);
/* Adds what the API server says of the instance's pod: cluster, labels, owner, container. */
void kubernetes_describe(const struct kubernetes *k, struct instance_info *i);
/* -EPERM: its namespace has not opted in, or has bounds of its own; -EBUSY: that is not known yet. */
int kubernetes_check_target(const struct kubernetes *k, const struct instance_info *i,
	const struct arm_request *request, struct err **err);

/*
 * A place in the share of its cluster for what is to be armed (share.h). done is called once, within or later from
 * the loop; claim NULL with r 0: no bound holds there, or the request will be refused for something else.
 */
void kubernetes_take_share(struct kubernetes *k, const struct arm_request *request, share_done done, void *data);
/* NULL: nothing. */
void kubernetes_settle_share(struct kubernetes *k, struct share_claim *claim);
/* -EBUSY: it would outlast its claim. */
int kubernetes_check_fire(const struct kubernetes *k, const char *instance, uint64_t duration_ms, struct err **err);
/* An experiment's state has changed. */
void kubernetes_look_at_claims(struct kubernetes *k);
bool kubernetes_has_claims(const struct kubernetes *k);
/* Those who wait for a place are told that the agent stops, and no one gets one any more. */
void kubernetes_stop_shares(struct kubernetes *k);
