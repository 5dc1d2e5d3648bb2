/* StackGres (stackgres.io): Patroni pods, `stackgres.io/v1` SGCluster. */
#pragma once

#include "manager/manager.h"

extern const struct manager_driver manager_stackgres;

/* By the SGCluster: sets refuse and unsettled. */
void stackgres_judge(const cJSON *object, struct cluster_view *v);
