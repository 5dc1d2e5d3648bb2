/*
 * Peers by name into addresses. Names: primary, replicas, instances (the other members), dcs,
 * apiserver, dns, clients, all, an instance (CLUSTER/MEMBER); addresses pass as they are. A name
 * that resolves to nothing is an error. See docs/drills.md for each name's meaning.
 */
#pragma once

#include "run/cluster.h"

/* names: as a drill has them, ports allowed ("dcs:2379"). *ret: "LABEL=ADDRESS/LEN[:PORTS]". The
 * target itself is never its own peer. */
int peers_resolve(const struct cluster *c, const struct target *target, char *const *names,
	char ***ret, struct err **err);
