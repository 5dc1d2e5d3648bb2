/* Stopping everything, and what every agent says of it. */
#pragma once

#include "session.h"

struct stop_result {
	size_t left;		/* experiments that could not be reverted */
	size_t unknown;		/* agents that may hold faults and were not reached */
};

/* Every agent of the session (SESSION_STOP) is told at the same time. One line each to f; NULL: none. The
 * same to agents, an array. */
void stop_all(struct session *s, FILE *f, cJSON *agents, struct stop_result *ret);
