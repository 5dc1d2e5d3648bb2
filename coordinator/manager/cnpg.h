/*
 * CloudNativePG (cloudnative-pg.io) by its Cluster, `postgresql.cnpg.io/v1`, its pods' labels, its
 * FailoverQuorum, its Lease and the operator's events. Field names are those of api/v1/cluster_types.go
 * and failoverquorum_types.go; what each is taken for is in docs/managers.md.
 */
#pragma once

#include "manager/pod.h"

extern const struct manager_driver manager_cnpg;

/* quorum may be NULL. -EPROTO: the Cluster has no name; all else that is missing or of another type is
 * as if it were not said. */
int cnpg_parse_cluster(const cJSON *cluster, const cJSON *quorum, const struct pod *pods, size_t n_pods,
	uint64_t at_ns, struct cluster_view **ret, struct err **err);
/* Why no drill may begin; caller frees; NULL: nothing stands against it. */
char *cnpg_refusal(const cJSON *cluster);
