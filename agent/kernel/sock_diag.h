/*
 * TCP sockets of a network namespace by sock_diag(7) and inet_diag (linux/inet_diag.h), spoken with
 * libmnl. The namespace is that of the netlink socket, wherever it was made.
 */
#pragma once

#include <linux/inet_diag.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

struct sock_info {
	int family;			/* AF_INET or AF_INET6 */
	uint8_t local[16], remote[16];	/* network order; IPv4 in the first 4 bytes */
	uint16_t local_port, remote_port;
	uint32_t inode;			/* as /proc/PID/fd shows it; 0: no process has it any more */
	struct inet_diag_sockid id;	/* the kernel's own name for it, cookie included */
};

/* A NETLINK_SOCK_DIAG socket made inside the namespace. */
int sock_diag_open(int netns_fd, int *ret_fd, struct err **err);

/* TCP sockets that their process still has open towards a peer (established, connecting, or closed by
 * the peer alone), of both families; an IPv6 socket that talks to a mapped IPv4 address is told as
 * AF_INET. Caller frees. */
int sock_diag_list(int fd, struct sock_info **ret, size_t *ret_count, struct err **err);

/* Ends a connection as if it had been reset: both ends get an error (SOCK_DESTROY, Linux 4.5,
 * CONFIG_INET_DIAG_DESTROY, CAP_NET_ADMIN). -ENOENT: that very socket is gone. */
int sock_diag_destroy(int fd, const struct sock_info *s, struct err **err);
