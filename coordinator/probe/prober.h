/*
 * One client of the run's record: a writer or a reader, with fresh sessions or a long-lived one.
 *
 * Long-lived: one statement at a time, the next one interval after the last was sent. A session that
 * gives no answer in time is thrown away and another is opened at once, then every 50 ms.
 * Fresh: a new session every interval, whatever became of the earlier ones, up to PROBER_SLOTS.
 */
#pragma once

#include "probe/probe_context.h"

/* Fresh sessions under way at once: a bound on what an unreachable cluster gathers in backends. */
#define PROBER_SLOTS 32

struct prober;

/* client: index in the record. Starts after delay_ns. */
int prober_new(struct probe_context *c, uint32_t client, uint64_t delay_ns, struct prober **ret,
	struct err **err);
void prober_free(struct prober *p);
/* Begins an outage while an attempt is still slow, not only once it has ended. */
void prober_check_slow(struct prober *p, uint64_t now);
/* No new attempts. */
void prober_stop(struct prober *p);
bool prober_busy(const struct prober *p);
/* What is under way ends: UNKNOWN if its statement was sent, else FAIL. */
void prober_give_up(struct prober *p);
