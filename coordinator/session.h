/* The owner of what every verb needs: the loop, the HTTP client, the agents, their instances. */
#pragma once

#include <systemd/sd-event.h>
#include "agentlink/agent_ask.h"
#include "agentlink/agent_link.h"
#include "agentlink/local_agent.h"
#include "cli.h"
#include "core/err.h"
#include "core/wire.h"
#include "http/http_client.h"
#include "kube/kube.h"

/* Put these first into a verb's struct; SESSION_OPTIONS first into its table. */
struct session_options {
	char **agents;		/* --agent SOCKET-PATH|https://HOST:PORT; none: the local default */
	char *tls_ca, *tls_cert, *tls_key, *tls_server_name;
	char *token_file;		/* for the agents; NULL: session_token_path() */
	char *kubeconfig, *context;	/* NULL: as kubectl looks */
	char *agents_namespace;		/* NULL: session_agents_namespace() */
	bool in_kube;			/* a verb's own word: Kubernetes is meant, though no option says so */
	bool json;
};
void session_options_done(struct session_options *o);

#define SESSION_OPTION(s, m) (offsetof(s, session) + offsetof(struct session_options, m))
/* s: the verb's struct, with a member `session`. */
#define SESSION_OPTIONS(s)                                                                          \
	{"agent", CLI_TEXTS, SESSION_OPTION(s, agents), "SOCKET|URL",                               \
		"an agent: a unix socket's path or https://HOST:PORT; may be repeated", "@files"},  \
	{"tls-ca", CLI_TEXT, SESSION_OPTION(s, tls_ca), "FILE", "CA of the agents' certificates",   \
		"@files"},                                                                          \
	{"tls-cert", CLI_TEXT, SESSION_OPTION(s, tls_cert), "FILE", "our certificate", "@files"},   \
	{"tls-key", CLI_TEXT, SESSION_OPTION(s, tls_key), "FILE", "our private key", "@files"},     \
	{"tls-server-name", CLI_TEXT, SESSION_OPTION(s, tls_server_name), "NAME",                   \
		"the name in the agents' certificate, where it is not the URL's", NULL},            \
	{"token-file", CLI_TEXT, SESSION_OPTION(s, token_file), "FILE",                             \
		"our token for agents that ask for one (default: in a pod, the one mounted for them)", \
		"@files"},                                                                          \
	{"kubeconfig", CLI_TEXT, SESSION_OPTION(s, kubeconfig), "FILE",                             \
		"find the agents by this cluster's API (default: in a pod, its service account)",   \
		"@files"},                                                                          \
	{"context", CLI_TEXT, SESSION_OPTION(s, context), "NAME", "of the kubeconfig", NULL},       \
	{"agents-namespace", CLI_TEXT, SESSION_OPTION(s, agents_namespace), "NAMESPACE",            \
		"where the agents' pods are (default: in a pod its own, else pgjolt)", NULL},                               \
	{"json", CLI_FLAG, SESSION_OPTION(s, json), NULL, "print one JSON document", NULL}

/* An agent that should be there and could not be asked. */
struct agent_missing {
	char *node;		/* or its address, as it was given; "": its pod is on none */
	char *pod;		/* NULL: not in Kubernetes */
	char *why;
	bool never_ran;		/* its pod has not been started */
};

struct session {
	sd_event *event;
	struct http_client *http;
	struct kube *kube;		/* the API server; NULL: no Kubernetes */
	struct local_agent *local;	/* the agent we started; NULL: it was there */
	struct agent_link **links;
	size_t n_links;
	char *agents_namespace;		/* with kube */
	bool discovered;		/* the agents are pods that the API told of */
	struct agent_missing *missing;
	size_t n_missing;
	bool hurry;			/* nothing is waited for any more, at its end either */
};

/* What to do where no agent is named and none answers on the default socket. */
enum session_use {
	SESSION_EXISTING,	/* that is an error: -ESRCH */
	SESSION_STOP,		/* so it is; agents that are not ready are asked too, and none has to answer */
	SESSION_LOOK,		/* start one that nobody else sees, to ask it */
	SESSION_ACT,		/* start one on the default socket and journal, for our own duration */
};

/* Learns each agent's name; measures its clock: of all at the same time. Agents named by --agent must answer; of
 * those found by the API that do not, stderr tells, and session.missing has them. SESSION_STOP: session.missing
 * has both, and stderr tells nothing. */
int session_open(const struct session_options *o, enum session_use use, struct session **ret,
	struct err **err);
/* The API server alone, no agents: --kubeconfig, $KUBECONFIG, the pod's account, ~/.kube/config. */
int session_open_api(const struct session_options *o, struct session **ret, struct err **err);
/* An agent that we started leaves, reverting what is left, unless another pgjolt uses it by now: then
 * it stays for as long as that does. Returns its exit status, or 0. */
int session_close(struct session *s);
static inline void session_closep(struct session **s)
{
	if (*s)
		session_close(*s);
}

/* The option's, $PGJOLT_AGENTS_NAMESPACE, that of the pod that we are in, whose account config is, else "pgjolt": a
 * kubeconfig's is kubectl's own. config NULL: none was read yet. Caller frees. */
char *session_agents_namespace(const struct session_options *o, const struct kube_config *config);

/* Is it about this host: no agent named, no Kubernetes meant? */
bool session_is_local(const struct session_options *o);

/* An instance and the agent that can reach it. */
struct target {
	struct agent_link *link;	/* borrowed */
	struct instance_info *info;
};
struct targets {
	struct target *items;
	size_t count;
};
void targets_done(struct targets *t);
/* All instances of all agents, by name; two nodes never share one. */
int session_targets(struct session *s, struct targets *ret, struct err **err);
/* Those of one cluster: by name, or, name NULL, the only one there is. -ENOENT names the clusters. */
int session_cluster(struct session *s, const char *cluster, struct targets *ret, struct err **err);
/* By instance name; -ENOENT names what there is. Borrowed. */
int targets_find(const struct targets *t, const char *name, const struct target **ret,
	struct err **err);
