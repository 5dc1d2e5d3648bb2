/*
 * Peers by name into addresses. Names: primary, replicas, instances (the other members), dcs,
 * apiserver, operator, dns, clients, all, an instance (CLUSTER/MEMBER, NAMESPACE/POD), in Kubernetes
 * also service:NAMESPACE/NAME, pods:[NAMESPACE:]SELECTOR, node:NAME; addresses pass as they are. A name
 * that resolves to nothing is an error. In Kubernetes the Services that lead to a peer belong to it:
 * from within the target's pod nothing else is seen of who is behind them. See docs/drills.md.
 */
#pragma once

#include "run/cluster.h"

/* names: as a drill has them, ports allowed ("dcs:2379"). *ret: "LABEL=ADDRESS/LEN[:PORTS]". The
 * target itself is never its own peer. */
int peers_resolve(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, struct err **err);
/* The same, with words on what is cut besides (NULL: nothing is). */
int peers_resolve_noted(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, char ***ret_notes, struct err **err);
/* The names that are plain words, one by one; NULL behind the last. */
const char *peers_name(size_t i);
