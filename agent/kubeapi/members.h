/* How many instances a pod's cluster has, by the API server's pods: what a share is a share of. */
#pragma once

#include "core/json.h"

/* The list that they are in; caller frees. NULL: nothing joins the pod to others. */
char *members_path(const cJSON *pod);
/* Of that list (NULL: none) those of the pod's cluster, one at least: by the operator's label without poolers and jobs, else
 * by the controller that they have in common. Those that have ended or are being deleted do not count. */
unsigned members_count(const cJSON *list, const cJSON *pod);
