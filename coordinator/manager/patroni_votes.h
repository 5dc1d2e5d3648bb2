/*
 * Whether anybody leads, as Patroni's members reckon it by their clocks and the lock's ttl: `cluster_unlocked`
 * in GET /patroni. For stores that tell all else by themselves. Never GET /cluster there: with Kubernetes as its
 * store, Patroni's answer to that renews the version of the lock by which its other thread, in the middle of a
 * race for it, then takes the lock from whoever has won (seen with 3.0.2: two primaries, commits lost).
 */
#pragma once

#include <systemd/sd-event.h>
#include "core/err.h"
#include "core/wire.h"
#include "http/http_client.h"

struct patroni_votes;

/* Asks each instance's port 8008 every interval; changed(data) when patroni_votes_unlocked() did. */
void patroni_votes_new(struct http_client *http, sd_event *event, struct instance_info *const *instances,
	size_t n, void (*changed)(void *data), void *data, struct patroni_votes **ret);
int patroni_votes_start(struct patroni_votes *v, uint64_t interval_ms, struct err **err);
void patroni_votes_free(struct patroni_votes *v);

/* The member has these addresses from now on (a pod that was made anew). */
void patroni_votes_move(struct patroni_votes *v, const char *member, char *const *addresses);

/* More than half of those who answered in the last 2 s say that nobody leads; false if none did. */
bool patroni_votes_unlocked(const struct patroni_votes *v);
/* Pure: each answer's time, 0 for none, and what it said. */
bool patroni_votes_count(const uint64_t *at_ns, const bool *unlocked, size_t n, uint64_t now_ns);
