/* The server's listening sockets, ready for accept: non-blocking, close-on-exec. */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include "core/err.h"

/*
 * A unix socket at path with mode 0600 from its first moment on (unix(7)): bound under another
 * name and renamed. A socket there that nobody answers on is replaced; one that is answered is
 * -EBUSY ("another agent is running"), anything that is no socket -EEXIST. *ret_id is what stat(2)
 * says of it, for listen_unix_remove().
 */
int listen_unix(const char *path, int *ret_fd, struct stat *ret_id, struct err **err);
/* Removes the path if it is still the socket of id. */
void listen_unix_remove(const char *path, const struct stat *id);

/* "ADDRESS:PORT" or "[IPV6]:PORT", both as numbers; "[::]:PORT" takes IPv4 too, and on a node without IPv6 that alone.
 * *ret_where says in words where that is; caller frees. */
int listen_tcp(const char *address, int *ret_fd, char **ret_where, struct err **err);
