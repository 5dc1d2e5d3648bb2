/* What GET /metrics tells (Prometheus' text format 0.0.4). No label has an unbounded set of values:
 * fault, state, route, code, mechanism. */
#pragma once

#include <stdint.h>
#include "core/err.h"

struct api_server;

#define METRICS_ROUTES_MAX 32	/* at least the routes, and one for what is none */
#define METRICS_CODES_MAX  16
#define METRICS_FAULTS_MAX 128

struct metrics {
	uint64_t requests[METRICS_ROUTES_MAX][METRICS_CODES_MAX];
	uint64_t ended_hits[METRICS_FAULTS_MAX];	/* of clean experiments, as in the catalogue */
	uint64_t counted;		/* events up to this sequence are in ended_hits */
	uint64_t refused_callers;
};

/* route: index into routes[], or routes_count for none. */
void metrics_count_request(struct metrics *m, unsigned route, unsigned status);
/* Adds the hits of experiments that came clean since the last call: their list is limited. */
void metrics_count_ended(struct api_server *server);
/* Caller frees. */
int metrics_print(struct api_server *server, char **ret, struct err **err);
