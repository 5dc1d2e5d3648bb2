/* What the labels and the state of a pod (core/v1 Pod) say of the PostgreSQL cluster that it belongs to. */
#pragma once

#include "kube/kube.h"

/* The key of the label that names its cluster: CloudNativePG's, Crunchy's, StackGres's, or Zalando's, which is
 * Patroni's own default for its scope too (kubernetes.scope_label). NULL: it has none. */
const char *pod_cluster_label(const cJSON *pod);
/* That label's value; NULL: none. */
const char *pod_cluster(const cJSON *pod);
/* Of those of an operator's cluster: does it run PostgreSQL, and is no pooler, backup or job? */
bool pod_is_member(const cJSON *pod);
/* Succeeded or failed: it has no processes, and its address may be another's. */
bool pod_has_ended(const cJSON *pod);
/* What made it ("StatefulSet" and, in *ret_name, "main"); NULL: nothing did. Borrowed; ret_name may be NULL. */
const char *pod_controller(const cJSON *pod, const char **ret_name);
