/*
 * What the agent knows from the Kubernetes API: labels and owners of the node's pods, namespaces that opted
 * in, the kill switch. All by watches, so that nothing waits; what is known stays while the API
 * server is away. Instances are found without any of it.
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"
#include "core/wire.h"

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
