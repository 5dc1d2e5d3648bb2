/*
 * What conn-reset takes for connections to the configuration store: those of the manager's own processes
 * (proc_choose_manager()) to
 *   - a store's client port (instance/dcs.h),
 *   - the Kubernetes API server as the manager's environment names it (KUBERNETES_SERVICE_HOST, _PORT),
 *   - a peer labelled "dcs": what the coordinator knows the store to be, such as the API server's endpoints.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"
#include "core/peer.h"
#include "core/wire.h"
#include "kernel/proc.h"
#include "kernel/sock_diag.h"

struct conn_store {
	const char *manager;	/* manager_process_name(), static; NULL: none was found */
	uint32_t *sockets;	/* inodes of the manager's */
	size_t n_sockets;
	int family;		/* of the API server; 0: none is known */
	uint8_t api[16];	/* network order; IPv4 in the first 4 bytes */
	uint16_t api_port;
};
void conn_store_done(struct conn_store *s);

/* -ENOENT where no manager is known, naming what is there; -EPERM where whose it is cannot be told, with what
 * to do instead. */
int conn_store_find(const struct proc_id *postmaster, const struct instance_info *instance,
	struct conn_store *ret, struct err **err);
/* What /proc/PID/environ has: the API server, if both variables are there and make sense. */
void conn_store_read_environment(struct conn_store *s, const char *text, size_t length);
/* -EOPNOTSUPP with the reason where no connection could ever be one to the store. */
int conn_store_check(const struct conn_store *s, const struct peer_list *peers, struct err **err);
/* Where no connection to the store is there, for the evidence: it may be at an address that nothing here
 * names. Caller frees; NULL for lack of memory. */
char *conn_store_remark(const struct conn_store *s, const struct peer_list *peers);
bool conn_store_has(const struct conn_store *s, const struct sock_info *socket, const struct peer_list *peers);
