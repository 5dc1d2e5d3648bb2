/* A node-local drill needs no other step: if no agent answers on the default socket, pgjolt starts
 * one for its own duration (pgjolt-agent beside itself or in PATH), with a socket and journal of the
 * usual places and --owner-pid, so that it leaves, reverting, when we end in whatever way. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "core/err.h"

struct local_agent;

/* Does somebody accept on the socket? A file alone proves nothing. -EACCES: not for us to know. */
int local_agent_answers(const char *socket_path, bool *ret, struct err **err);
/* 0 with *ret NULL when an agent answers already. -EACCES when we are not root. */
int local_agent_ensure(const char *socket_path, struct local_agent **ret, struct err **err);
/* One that nobody else sees, on a socket and a journal of its own: to ask, not to inject. */
int local_agent_private(struct local_agent **ret, struct err **err);
/* How many faults of a dead agent the default journal holds. -EACCES: not for us to read. */
int local_agent_journal(size_t *ret_count, struct err **err);
/* Of a private one; NULL: the default. Borrowed. */
const char *local_agent_socket(const struct local_agent *a);
/* Lets it live on: it leaves by itself when we have ended and nobody else uses it. */
void local_agent_detach(struct local_agent *a);
/* SIGTERM, waits (bounded) for it to revert and leave. Returns its exit status; 5: could not revert. -EINTR: a
 * signal that we block came meanwhile; it goes on by itself. */
int local_agent_stop(struct local_agent *a);
/* pidfd; readable when the agent has ended. */
int local_agent_pidfd(const struct local_agent *a);
