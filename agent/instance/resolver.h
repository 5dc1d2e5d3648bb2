/*
 * Whom an instance's programs ask for names: the name servers of /etc/resolv.conf (resolv.conf(5)) in its
 * own root. A pod's may be the cluster's Service, a cache on its node or what its dnsConfig says, of
 * either family; nothing else tells of all these.
 */
#pragma once

#include <sys/types.h>
#include "core/err.h"

/* *ret: addresses, NULL-terminated, may be NULL for none; caller strv_free()s. -ENOENT: no such file. */
int resolver_find(pid_t pid, char ***ret, struct err **err);
/* Of the file's text: in its order, each once, 8 at most; a scope ("%eth0") is left out. What is no
 * address is passed over. Caller strv_free()s; NULL: none. */
char **resolver_parse(const char *text);
