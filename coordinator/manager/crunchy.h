/* Crunchy Data's Postgres Operator (PGO): Patroni pods, `postgres-operator.crunchydata.com/v1beta1`
 * PostgresCluster. */
#pragma once

#include "manager/manager.h"

extern const struct manager_driver manager_crunchy;

/* By the PostgresCluster: sets refuse and unsettled. */
void crunchy_judge(const cJSON *object, struct cluster_view *v);
