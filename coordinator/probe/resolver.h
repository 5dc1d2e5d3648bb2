/*
 * Host names to addresses, in a thread of its own (getaddrinfo(3) blocks): every name once a second,
 * so that a failover by DNS is seen as clients without a cache see it. The loop's side never waits.
 */
#pragma once

#include <systemd/sd-event.h>
#include "core/err.h"
#include "probe/conninfo.h"

struct resolver;

/* Runs the loop until every name was tried once, at most 5 s. Names of endpoints that need none are
 * skipped; without any name there is no thread. */
int resolver_new(sd_event *event, const struct pg_endpoints *lists, size_t n_lists,
	struct resolver **ret, struct err **err);
void resolver_free(struct resolver *r);
DEFINE_CLEANUP(struct resolver, resolver_free)
/* The k-th address of the name now, or NULL. Valid until the loop runs on. */
const char *resolver_address(const struct resolver *r, const char *name, size_t k);
