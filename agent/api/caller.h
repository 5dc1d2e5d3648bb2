/* Who calls, and whether he may. */
#pragma once

#include <sys/types.h>
#include <stdbool.h>
#include "core/err.h"

/* gnutls_session_t. <gnutls/gnutls.h> has a `union params`, which is not for those who include
 * core/param.h. */
struct gnutls_session_int;

struct caller {
	char name[160];	/* "uid 0, pid 77" or "certificate pgjolt.example"; printable */
	unsigned status;	/* HTTP status of a refusal: 401 or 403 */
	pid_t pid;		/* of a caller on the unix socket; 0: none */
	bool metrics_only;	/* he may use the routes of RIGHT_NONE, and nothing else */
};

/* Who may call on TCP, by the common name or an alternative name of his certificate. */
struct caller_names {
	char *const *allowed;	/* NULL: whoever is not in metrics */
	char *const *metrics;	/* with metrics_only, unless he has an allowed name besides; NULL: nobody */
};

/* The process at the other end of a unix socket (SO_PEERCRED, unix(7)): root or the agent's own
 * user. -EPERM with ret->status otherwise; ret is filled as far as it is known. */
int caller_from_socket(int fd, struct caller *ret, struct err **err);

/*
 * The certificate at the other end of a TLS session: verified against the CA as a client's, valid
 * now, and with a name that may call. -EACCES (401) without one, -EPERM (403) otherwise.
 */
int caller_from_session(struct gnutls_session_int *session, const struct caller_names *names,
	struct caller *ret, struct err **err);
