/* Requests to the kernel over netlink (netlink(7), libmnl), for families that libnl does not know well
 * enough: sock_diag and traffic control. */
#pragma once

#include <libmnl/libmnl.h>
#include "core/err.h"

/* A socket of that protocol, made inside the namespace; answers are waited for 2 s. */
int netlink_open(int netns_fd, int protocol, int *ret_fd, struct err **err);
/* Sends a request and hands each answer to call (NULL: only its end counts), until the end or an
 * error: that of the kernel, with `what` before its words. */
int netlink_talk(int fd, const struct nlmsghdr *request, mnl_cb_t call, void *data, const char *what,
	struct err **err);
