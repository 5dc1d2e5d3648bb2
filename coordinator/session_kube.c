/* Agents in Kubernetes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kubernetes/agents.h"
#include "session_internal.h"

/* Where the manifests mount the Secrets. */
#define TLS_FOLDER "/etc/pgjolt/tls/"

bool session_wants_kube(const struct session_options *o)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	if (o->kubeconfig || o->context || o->agents_namespace)
		return true;
	return kube_config_in_cluster(&c, NULL) >= 0;
}

int session_open_kube(struct session *s, const struct session_options *o, struct err **err)
{
	const char *namespace = getenv("PGJOLT_AGENTS_NAMESPACE");
	struct kube_config *config = NULL;
	int r = kube_config_find(o->kubeconfig, o->context, &config, err);

	if (r < 0)
		return r;
	if (o->agents_namespace)
		namespace = o->agents_namespace;
	s->agents_namespace = strdup(namespace && *namespace ? namespace : AGENTS_NAMESPACE_DEFAULT);
	return kube_new(s->http, config, &s->kube, err);
}

static char *file_there(const char *path)
{
	return access(path, R_OK) == 0 ? (char *)path : NULL;
}

struct http_tls session_tls(const struct session_options *o)
{
	struct http_tls tls = {o->tls_ca, o->tls_cert, o->tls_key, o->tls_server_name};

	if (!tls.ca)
		tls.ca = file_there(TLS_FOLDER "ca.crt");
	if (!tls.cert && !tls.key) {
		tls.cert = file_there(TLS_FOLDER "tls.crt");
		tls.key = file_there(TLS_FOLDER "tls.key");
	}
	return tls;
}

static void add_missing(struct session *s, const struct kube_agent *a, const char *why)
{
	s->missing = reallocarray(s->missing, s->n_missing + 1, sizeof(*s->missing));
	if (!s->missing)
		abort();
	s->missing[s->n_missing++] = (struct agent_missing){
		.node = strdup(*a->node ? a->node : "(no node)"),
		.pod = strdup(a->pod),
		.why = strdup(why),
	};
}

static bool has_link(const struct session *s, const char *node)
{
	for (size_t i = 0; i < s->n_links; i++)
		if (strcmp(agent_link_name(s->links[i]), node) == 0)
			return true;
	return false;
}

/* A pod that is replaced is there beside its successor for a while: that one will do. */
static void tell_missing(struct session *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_missing; i++) {
		struct agent_missing *m = &s->missing[i];

		if (has_link(s, m->node)) {
			free(m->node);
			free(m->pod);
			free(m->why);
			continue;
		}
		fprintf(stderr, "pgjolt: warning: no agent on node %s: pod %s/%s: %s\n", m->node,
			s->agents_namespace, m->pod, m->why);
		s->missing[kept++] = *m;
	}
	s->n_missing = kept;
}

/* Pods' addresses are reached from within the cluster alone, as a rule. */
static int nobody_answers(const struct session *s, struct err **err)
{
	_cleanup_(kube_config_freep) struct kube_config *in_pod = NULL;
	bool inside = kube_config_in_cluster(&in_pod, NULL) >= 0;

	return err_set(err, -ECONNREFUSED,
		"none of the %zu agents in namespace %s answers (%s: %s)%s", s->n_missing,
		s->agents_namespace, s->missing[0].pod, s->missing[0].why,
		inside ? "" :
			 ": agents are reached from inside the cluster, so run pgjolt there: `kubectl "
			 "pgjolt ...`, or `kubectl -n pgjolt exec -it deploy/pgjolt-toolbox -- pgjolt ...`");
}

int session_discover(struct session *s, const struct session_options *o, struct err **err)
{
	const struct kube_config *config = kube_config_of(s->kube);
	struct agent_address address = {
		.tls = session_tls(o),
		.token_path = config->token_path,
		.token = config->token,
	};
	struct kube_agents agents = {0};
	int r;

	if (!address.tls.server_name)
		address.tls.server_name = (char *)AGENT_SERVER_NAME;
	r = kube_agents_list(s->kube, s->agents_namespace, &agents, err);
	for (size_t i = 0; r >= 0 && i < agents.count; i++) {
		_cleanup_err_ struct err *cause = NULL;
		struct kube_agent *a = &agents.items[i];

		address.url = a->url;
		if (!a->url)
			add_missing(s, a, a->why);
		else if (session_add(s, &address, &cause) < 0)
			add_missing(s, a, err_text(cause));
	}
	kube_agents_done(&agents);
	if (r < 0)
		return r;
	if (!s->n_links)
		return nobody_answers(s, err);
	tell_missing(s);
	return 0;
}

int session_hint_kube(struct err **err, int code)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	if (getenv("KUBERNETES_SERVICE_HOST") && kube_config_in_cluster(&c, NULL) < 0)
		return err_set(err, code,
			"%s\nThis is a pod without a service account's token "
			"(automountServiceAccountToken: true), so agents cannot be looked for",
			err_text(*err));
	if (kube_config_find(NULL, NULL, &c, NULL) < 0)
		return code;
	return err_set(err, code,
		"%s\nA Kubernetes cluster is configured (%s): its agents are reached from inside it. Run "
		"`kubectl pgjolt ...`,\nor `kubectl -n pgjolt exec -it deploy/pgjolt-toolbox -- pgjolt ...`",
		err_text(*err), c->source);
}
