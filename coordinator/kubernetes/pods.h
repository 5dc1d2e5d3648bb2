/* What pgjolt reads of a pod (core/v1 Pod). */
#pragma once

#include "kube/pod.h"

/* Both families of a dual stack; NULL: none yet. Caller strv_free()s. */
char **pod_addresses(const cJSON *pod);
/* Why it is not ready ("container agent: CrashLoopBackOff"); NULL: it is. Caller frees. */
char *pod_unready(const cJSON *pod);
/* Has any of its containers been started, as far as is known? Where nothing is known: yes. */
bool pod_has_run(const cJSON *pod);
bool pod_on_host_network(const cJSON *pod);
