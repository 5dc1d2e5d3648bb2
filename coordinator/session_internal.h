/* Between the files of the session. */
#pragma once

#include "session.h"

/* Agents that answer join s->links; for each that does not, errors (as many as addresses, NULL) tells why. */
void session_add(struct session *s, const struct agent_address *addresses, size_t n,
	struct err **errors);
/* Copies it. */
void session_add_missing(struct session *s, const struct agent_missing *m);

/* Is a Kubernetes cluster meant: by an option, or since we are in a pod? */
bool session_wants_kube(const struct session_options *o);
/* Opens s->kube. -ENOENT: there is no configuration. */
int session_open_kube(struct session *s, const struct session_options *o, struct err **err);
/* Adds the agents that the API knows. At least one must answer (SESSION_STOP: none). */
int session_discover(struct session *s, const struct session_options *o, enum session_use use,
	struct err **err);
/* The options', else those of the pod's Secret where they are, else none. Borrowed. */
struct http_tls session_tls(const struct session_options *o);
/* Puts a word on a cluster that is configured, and not meant by itself, behind a failure. */
int session_hint_kube(struct err **err, int code);
/*
 * The file of the token that agents are shown: the option's, $PGJOLT_TOKEN_FILE, or the one that the manifests mount, made out
 * to the agents alone. NULL: the one that serves with the API server. A kubeconfig is somebody's own choice of who to be,
 * so what is mounted does not stand in for it. Borrowed.
 */
const char *session_token_path(const struct session_options *o, const struct kube_config *config);
/* Fills in who we are for agents at URLs. -EINVAL and others: a file that was named cannot be read. */
int session_identify(const struct session *s, const struct session_options *o, struct agent_address *a,
	struct err **err);
