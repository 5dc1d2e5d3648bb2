/*
 * The attempts of one kind through the clients' way, in the order in which their outcomes came, and
 * the times when none worked.
 */
#pragma once

#include "verdict/verdict.h"

struct series {
	const struct attempt **items;	/* by done_ns; borrowed from the record */
	size_t n;
	uint64_t slow_ns;
	uint64_t fastest_ns, fresh_ns;	/* the shortest interval of all, of the fresh; 0: no client */
	uint64_t watched_until_ns;	/* the last attempt of any client was sent */
};

void series_init(struct series *s, const struct run_record *r, enum probe_kind kind);
void series_done(struct series *s);

/* When a client noticed first, not before since: an attempt's failure, or its being slow. */
struct figure series_first_bad(const struct series *s, uint64_t since_ns);
/* The first acknowledged after since; on that timeline, a later or an unknown one. NULL: none. */
const struct attempt *series_first_ok(const struct series *s, uint64_t since_ns, uint32_t timeline);
/* Every outage from since on, by time. Returns how many; the caller frees *ret. */
size_t series_outages(const struct series *s, uint64_t since_ns, struct outage **ret);
uint64_t outages_sum(const struct outage *outages, size_t n);
/* How far the moment at might really be from what clients would have seen: the nominal interval, or the
 * longest pause between two attempts' sending around it where the probes were held up. */
uint64_t series_pause(const struct series *s, uint64_t at_ns, uint64_t nominal_ns);
