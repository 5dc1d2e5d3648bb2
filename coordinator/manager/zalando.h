/* Zalando's Postgres Operator: Spilo (Patroni) pods, `acid.zalan.do/v1` postgresql. */
#pragma once

#include "manager/manager.h"

extern const struct manager_driver manager_zalando;

/* By the postgresql object: sets refuse and unsettled. */
void zalando_judge(const cJSON *object, struct cluster_view *v);
