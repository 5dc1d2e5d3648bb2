/* What pgjolt reads of a pod (core/v1 Pod). */
#pragma once

#include "kube/kube.h"

/* Both families of a dual stack; NULL: none yet. Caller strv_free()s. */
char **pod_addresses(const cJSON *pod);
/* Why it is not ready ("container agent: CrashLoopBackOff"); NULL: it is. Caller frees. */
char *pod_unready(const cJSON *pod);
/* Succeeded or failed: it has no processes, and its address may be another's. */
bool pod_has_ended(const cJSON *pod);
/* Has any of its containers been started, as far as is known? Where nothing is known: yes. */
bool pod_has_run(const cJSON *pod);
bool pod_on_host_network(const cJSON *pod);
/* The database cluster that it is a member of, by its operator's label; NULL: no operator's. */
const char *pod_cluster(const cJSON *pod);
/* Of those of an operator's cluster: does it run PostgreSQL, and is no pooler, backup or job? */
bool pod_is_member(const cJSON *pod);
