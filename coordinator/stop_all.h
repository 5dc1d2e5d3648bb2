/* Stopping everything, and what every agent says of it. */
#pragma once

#include "session.h"

struct stop_result {
	size_t left;		/* experiments that could not be reverted */
	size_t unknown;		/* agents that may hold faults and were not reached */
	size_t locked;		/* agents that say that they heed the lock; with stop_wait_locked() */
	size_t unheeding;	/* agents that were asked and do not */
};

/* Every agent of the session (SESSION_STOP) is told at the same time. One line each to f; NULL: none. The
 * same to agents, an array. */
void stop_all(struct session *s, FILE *f, cJSON *agents, struct stop_result *ret);
/* The kill switch of that namespace was written: looks for a few seconds until all agents say that they take no fault for it. A line to f
 * for each that does not; "locked" to what stop_all() wrote of each. */
void stop_wait_locked(struct session *s, const char *namespace, FILE *f, cJSON *agents, struct stop_result *ret);
