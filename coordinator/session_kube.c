/* Agents in Kubernetes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kubernetes/agents.h"
#include "session_internal.h"

/* Where the manifests mount the Secrets. */
#define TLS_FOLDER "/etc/pgjolt/tls/"
#define TOKEN_FILE "/var/run/secrets/pgjolt.io/token"

/* As the pod's service account. */
static bool is_in_cluster(const struct kube_config *config)
{
	return config && strcmp(config->source, "in-cluster") == 0;
}

bool session_wants_kube(const struct session_options *o)
{
	_cleanup_(kube_config_freep) struct kube_config *c = NULL;

	if (o->kubeconfig || o->context || o->agents_namespace || o->in_kube)
		return true;
	return kube_config_in_cluster(&c, NULL) >= 0;
}

char *session_agents_namespace(const struct session_options *o, const struct kube_config *config)
{
	_cleanup_(kube_config_freep) struct kube_config *own = NULL;
	const char *namespace = getenv("PGJOLT_AGENTS_NAMESPACE");
	char *copy;

	if (!config && kube_config_in_cluster(&own, NULL) >= 0)
		config = own;
	if (o->agents_namespace)
		namespace = o->agents_namespace;
	else if (!(namespace && *namespace))
		namespace = is_in_cluster(config) ? config->default_namespace : AGENTS_NAMESPACE_DEFAULT;
	copy = strdup(namespace);
	if (!copy)
		abort();
	return copy;
}

int session_open_kube(struct session *s, const struct session_options *o, struct err **err)
{
	struct kube_config *config = NULL;
	int r = kube_config_find(o->kubeconfig, o->context, &config, err);

	if (r < 0)
		return r;
	s->agents_namespace = session_agents_namespace(o, config);
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

static bool has_link(const struct session *s, const char *node)
{
	for (size_t i = 0; i < s->n_links; i++)
		if (strcmp(agent_link_name(s->links[i]), node) == 0)
			return true;
	return false;
}

/* A pod that is replaced is there beside its successor for a while: that one will do. */
static void tell_missing(struct session *s, bool tell)
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
		if (tell)
			fprintf(stderr, "pgjolt: warning: no agent on node %s: pod %s/%s: %s\n",
				*m->node ? m->node : "(no node)", s->agents_namespace, m->pod, m->why);
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

const char *session_token_path(const struct session_options *o, const struct kube_config *config)
{
	const char *path = getenv("PGJOLT_TOKEN_FILE");

	if (o->token_file)
		return o->token_file;
	if (path && *path)
		return path;
	return !config || is_in_cluster(config) ? file_there(TOKEN_FILE) : NULL;
}

int session_identify(const struct session *s, const struct session_options *o, struct agent_address *a,
	struct err **err)
{
	const struct kube_config *config = s->kube ? kube_config_of(s->kube) : NULL;
	const char *path = session_token_path(o, config);
	char *token = NULL;
	int r;

	a->tls = session_tls(o);
	/* In Kubernetes all agents have one certificate, whatever address leads to them. */
	if (s->kube && !a->tls.server_name)
		a->tls.server_name = (char *)AGENT_SERVER_NAME;
	if (!path) {
		a->token_path = config ? config->token_path : NULL;
		a->token = config ? config->token : NULL;
		return 0;
	}
	/* Read again for each request; here, so that a wrong name is told as such. */
	r = kube_token_read(path, &token, err);
	if (r < 0)
		return err_wrap(err, r, "agents' token");
	explicit_bzero(token, strlen(token));
	free(token);
	a->token_path = (char *)path;
	return 0;
}

/* One that is not ready may be well, and its readiness be what the cluster cannot see now. */
static bool is_asked(const struct kube_agent *a, enum session_use use)
{
	return a->url && (!a->why || use == SESSION_STOP || use == SESSION_EXISTING);
}

/* us: all of their addresses but the URL. */
static void add_agents(struct session *s, const struct agent_address *us, enum session_use use,
	const struct kube_agents *agents)
{
	_cleanup_free_ struct agent_address *addresses = calloc(agents->count + 1, sizeof(*addresses));
	_cleanup_free_ struct err **errors = calloc(agents->count + 1, sizeof(struct err *));
	size_t n = 0;

	if (!addresses || !errors)
		abort();
	for (size_t i = 0; i < agents->count; i++)
		if (is_asked(&agents->items[i], use)) {
			addresses[n] = *us;
			addresses[n++].url = agents->items[i].url;
		}
	session_add(s, addresses, n, errors);
	n = 0;
	for (size_t i = 0; i < agents->count; i++) {
		const struct kube_agent *a = &agents->items[i];
		_cleanup_err_ struct err *err = is_asked(a, use) ? steal_ptr(errors[n++]) : NULL;
		struct agent_missing m = {a->node, a->pod, a->why, a->never_ran};

		if (is_asked(a, use) && !err)
			continue;
		if (err)
			m.why = err->text;
		session_add_missing(s, &m);
	}
}

int session_discover(struct session *s, const struct session_options *o, enum session_use use,
	struct err **err)
{
	struct agent_address us = {0};
	struct kube_agents agents = {0};
	int r = session_identify(s, o, &us, err);

	if (r >= 0)
		r = kube_agents_list(s->kube, s->agents_namespace, &agents, err);
	if (r < 0)
		return r;
	s->discovered = true;
	add_agents(s, &us, use, &agents);
	kube_agents_done(&agents);
	if (!s->n_links && use != SESSION_STOP)
		return nobody_answers(s, err);
	tell_missing(s, use != SESSION_STOP);
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
