/*
 * Finding PostgreSQL on this node by /proc alone: a postmaster is a process "postgres" or
 * "postmaster" whose working directory holds postmaster.pid naming it (in its own pid namespace) and
 * whose parent is not one. Everything is read through /proc/PID (root, cwd, environ, status,
 * ns/...), so it works across mount and pid namespaces.
 *
 * Name: NAMESPACE/POD in Kubernetes; else CLUSTER/MEMBER, where CLUSTER is cluster_name (command
 * line, then titles; "/" becomes "-"), else "postgres", and MEMBER is the host name if the
 * instance has an UTS namespace of its own, else its port. Two of the same name get "~PID" added.
 * Role: titles of its children ("startup" or "walreceiver": replica), else primary; unknown while it
 * has none. So a primary counts as a replica for as long as it recovers from a crash.
 */
#pragma once

#include <stddef.h>
#include "core/err.h"
#include "core/wire.h"

/* All instances, by name; caller frees each and the array. node_name is copied into each. */
int instance_scan(const char *node_name, struct instance_info ***ret, size_t *ret_count,
	struct err **err);
void instance_list_free(struct instance_info **list, size_t count);

/* By name. -ENOENT names what there is. Leaves dcs NULL: finding that is slow, and arming waits. */
int instance_find(const char *node_name, const char *name, struct instance_info **ret,
	struct err **err);

/* Is the postmaster still this very process? */
bool instance_is_alive(const struct instance_info *i);

/* What a PostgreSQL process calls itself, from its title: "postgres: lab: walsender ..." ->
 * "walsender"; a client's backend -> "backend"; the postmaster -> "postmaster"; NULL if it is none
 * of PostgreSQL's. cluster: cluster_name or NULL. Static text or a pointer into title. */
const char *instance_process_kind(const char *title, const char *cluster, size_t *ret_length);
