#include "kubeapi/kubernetes.h"

#include <string.h>
#include "agent.h"
#include "core/log.h"
#include "kube/kube.h"
#include "kubeapi/namespaces.h"
#include "kubeapi/pods.h"
#include "kubeapi/stop_switch.h"

/* A watch, and what is to be told of the API server's coming and going. */
struct view {
	struct kubernetes *all;
	const char *what;
	struct kube_watch *watch;
	void (*changed)(struct kubernetes *k, enum kube_change change, const cJSON *object);
	bool known, lost;
};

struct kubernetes {
	struct agent *agent;
	struct http_client *http;
	struct kube *kube;
	char *namespace;
	struct view pods, namespaces, stop;
};

static void on_change(enum kube_change change, const cJSON *object, void *data)
{
	struct view *v = data;
	struct kubernetes *k = v->all;

	if (change == KUBE_LOST && !v->lost) {
		v->lost = true;
		agent_tell(k->agent, "error", "the Kubernetes API at %s does not tell of %s: %s",
			kube_config_of(k->kube)->server, v->what,
			v->known ? "what was known last stays" : "nothing is known");
	}
	if (change == KUBE_SYNCED) {
		if (v->lost)
			agent_tell(k->agent, "instance", "the Kubernetes API at %s tells of %s",
				kube_config_of(k->kube)->server, v->what);
		v->known = true;
		v->lost = false;
	}
	if (v->changed)
		v->changed(k, change, object);
}

static void stop_set(struct kubernetes *k, const cJSON *config_map)
{
	_cleanup_free_ char *words = NULL;
	const char *before = experiments_lock_reason(k->agent->experiments);

	if (!stop_switch_is_on(config_map)) {
		if (before)
			agent_tell(k->agent, "audit", "the kill switch is off");
		experiments_lock(k->agent->experiments, NULL);
		return;
	}
	words = stop_switch_words(config_map);
	if (before && strcmp(before, words) == 0)
		return;
	agent_tell(k->agent, "audit", "%s: all faults are reverted, none is taken", words);
	experiments_lock(k->agent->experiments, words);
}

static void stop_changed(struct kubernetes *k, enum kube_change change, const cJSON *object)
{
	switch (change) {
	case KUBE_ADDED:
	case KUBE_MODIFIED:
		stop_set(k, object);
		return;
	case KUBE_DELETED:
		stop_set(k, NULL);
		return;
	case KUBE_SYNCED:
		if (kube_watch_count(k->stop.watch) == 0)
			stop_set(k, NULL);
		return;
	default:
		return;
	}
}

static int view_start(struct view *v, struct kubernetes *k, const char *what, const char *path,
	struct err **err)
{
	int r;

	v->all = k;
	v->what = what;
	r = kube_watch_start(k->kube, path, on_change, v, &v->watch, err);
	return r < 0 ? err_wrap(err, r, "watch %s", what) : 0;
}

static int stop_start(struct kubernetes *k, const char *config_map, struct err **err)
{
	_cleanup_free_ char *namespace = strndup(config_map, strcspn(config_map, "/"));
	_cleanup_free_ char *path = stop_switch_path(namespace, strchr(config_map, '/') + 1);

	/* What may be on is on. */
	experiments_lock(k->agent->experiments, "the kill switch has not been read yet");
	k->stop.changed = stop_changed;
	return view_start(&k->stop, k, "the kill switch", path, err);
}

static int config_find(const struct kubernetes_config *c, struct kube_config **ret, struct err **err)
{
	int r = c->kubeconfig ? kube_config_load(c->kubeconfig, NULL, ret, err) :
				kube_config_in_cluster(ret, err);

	return r < 0 ? err_wrap(err, r, "Kubernetes") : 0;
}

static int start(struct kubernetes *k, struct err **err)
{
	const struct kubernetes_config *c = &k->agent->config.kubernetes;
	_cleanup_(kube_config_freep) struct kube_config *config = NULL;
	_cleanup_free_ char *pods = pods_path(k->agent->config.node_name);
	int r;

	r = config_find(c, &config, err);
	if (r < 0)
		return r;
	k->namespace = strdup(c->namespace ? c->namespace :
			      c->kubeconfig ? KUBERNETES_NAMESPACE : config->default_namespace);
	r = http_client_new(k->agent->event, &k->http, err);
	if (r >= 0)
		r = kube_new(k->http, steal_ptr(config), &k->kube, err);
	if (r >= 0 && c->stop_config_map)
		r = stop_start(k, c->stop_config_map, err);
	if (r >= 0 && c->require_label)
		r = view_start(&k->namespaces, k, "the namespaces that opted in", NAMESPACES_PATH, err);
	if (r >= 0)
		r = view_start(&k->pods, k, "this node's pods", pods, err);
	return r;
}

int kubernetes_new(struct agent *agent, struct kubernetes **ret, struct err **err)
{
	struct kubernetes *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_errno(err, ENOMEM, "Kubernetes");
	k->agent = agent;
	r = start(k, err);
	if (r < 0) {
		kubernetes_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kubernetes_free(struct kubernetes *k)
{
	if (!k)
		return;
	kube_watch_stop(k->pods.watch);
	kube_watch_stop(k->namespaces.watch);
	kube_watch_stop(k->stop.watch);
	kube_free(k->kube);
	http_client_free(k->http);
	free(k->namespace);
	free(k);
}

struct kube *kubernetes_api(const struct kubernetes *k)
{
	return k->kube;
}

const char *kubernetes_namespace(const struct kubernetes *k)
{
	return k->namespace;
}

void kubernetes_describe(const struct kubernetes *k, struct instance_info *i)
{
	pods_describe(k->pods.watch, i);
}

/* NAMESPACE/POD: what a caller's right was asked for is the first word of the name. */
static bool name_is_of_namespace(const struct instance_info *i)
{
	size_t n = i->namespace ? strlen(i->namespace) : 0;

	return n > 0 && strncmp(i->name, i->namespace, n) == 0 && i->name[n] == '/';
}

int kubernetes_check_target(const struct kubernetes *k, const struct instance_info *i,
	const struct arm_request *request, struct err **err)
{
	if (k->agent->config.kubernetes.authorize && !name_is_of_namespace(i))
		return err_set(err, EPERM,
			"instance %s is in no pod: there is no namespace whose rights could be asked", i->name);
	if (!k->agent->config.kubernetes.require_label)
		return 0;
	if (!k->namespaces.known)
		return err_set(err, EBUSY,
			"which namespaces opted in is not known yet: the Kubernetes API at %s has not told",
			kube_config_of(k->kube)->server);
	return namespaces_check(k->namespaces.watch, i, request, err);
}
