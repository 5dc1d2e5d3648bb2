/* Patroni by its REST API (patroni.readthedocs.io, rest_api): GET /cluster on port 8008 of every
 * member. Each member reads its configuration store to answer, so one that is cut off from the
 * store may answer late, not at all, or from what it remembers; see patroni.c for how answers that
 * differ are weighed. */
#pragma once

#include "manager/manager.h"

extern const struct manager_driver manager_patroni;

#define PATRONI_PORT 8008

/* Of a member's REST API; caller frees. */
char *patroni_url(const char *address, const char *path);

/* One answer of GET /cluster. source is copied. */
int patroni_parse_cluster(const cJSON *json, const char *source, uint64_t at_ns,
	struct instance_info *const *instances, size_t n, struct cluster_view **ret,
	struct err **err);

/*
 * Members may differ: one that is cut off remembers the old leader. The leader that most of the
 * fresh answers (2 s) name counts; of two as many, the one on the newer timeline; else the newer
 * answer. Of those that name it the one on the newest timeline, then the newest, is returned: one of
 * views, whose entries may be NULL. NULL when none is fresh.
 */
const struct cluster_view *patroni_weigh(const struct cluster_view *const *views, size_t n,
	uint64_t now_ns);
