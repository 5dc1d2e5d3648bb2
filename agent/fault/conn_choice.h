/* The connections of an instance that conn-reset acts on: what each is for, and which are meant. */
#pragma once

#include <stddef.h>
#include "core/err.h"
#include "core/param.h"
#include "core/wire.h"
#include "fault/conn_store.h"
#include "kernel/proc.h"
#include "kernel/sock_diag.h"

/*
 * What a connection is for, the first that fits:
 *   replication  a walsender, a walreceiver or a worker of logical replication has the socket open
 *   client       its local port is the instance's
 *   dcs          the manager's, to its configuration store (conn_store.h)
 *   other        anything else in the namespace
 * A backend becomes a walsender when it has read its client's first message: for that moment it is a
 * client's.
 */
enum conn_role { CONN_ANY, CONN_CLIENT, CONN_REPLICATION, CONN_DCS, CONN_OTHER, CONN_ROLE_MAX };

struct conn {
	struct sock_info socket;
	enum conn_role role;
};

/* In the order of conn-reset's choices; "other" cannot be chosen. */
extern const char *const conn_role_words[CONN_ROLE_MAX];

/* fd: of sock_diag_open(). Those that role, peers and ports of params mean. Caller frees.
 * *ret_dcs: connections to the store, whatever params mean. */
int conn_choose(int fd, const struct instance_info *i, const struct proc_id *postmaster,
	const struct conn_store *store, const struct params *params, struct conn **ret, size_t *ret_count,
	size_t *ret_dcs, struct err **err);

/* Does the peer mean this connection? Its ports are those of either end. */
bool conn_matches_peer(const struct sock_info *s, const struct peer *p);
