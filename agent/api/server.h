/*
 * The agent's HTTP server on the loop: libmicrohttpd in external epoll mode. Unix socket: the peer
 * must be root or the agent's own user by SO_PEERCRED (unix(7)), path mode 0600. TCP: mutual TLS
 * alone, and the client's certificate is checked on every request (libmicrohttpd does not refuse a
 * missing one by itself). Routes: docs/api/openapi.yaml.
 */
#pragma once

#include "agent.h"

int api_server_new(struct agent *agent, struct api_server **ret, struct err **err);
void api_server_free(struct api_server *s);
/* Does anybody but the agent's owner follow the events? */
bool api_server_is_used(const struct api_server *s);
/* Where it listens on TCP, in words; NULL: it does not. Borrowed. */
const char *api_server_where(const struct api_server *s);
