#include "kubeapi/kubernetes.h"

#include <string.h>
#include "agent.h"
#include "core/log.h"
#include "core/units.h"
#include "instance/instance.h"
#include "kube/kube.h"
#include "kube/stop_switch.h"
#include "kubeapi/namespaces.h"
#include "kubeapi/pods.h"

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
	struct shares *shares;		/* NULL: callers are not authorized by the API server */
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
	_cleanup_free_ char *namespace = config_map ? strndup(config_map, strcspn(config_map, "/")) : NULL;
	_cleanup_free_ char *path = stop_switch_path(namespace ? namespace : k->namespace,
		config_map ? strchr(config_map, '/') + 1 : STOP_SWITCH_NAME);

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

static uint64_t busy_ms(const char *instance, void *data)
{
	struct kubernetes *k = data;

	return experiments_busy_ms(k->agent->experiments, instance);
}

static void tell_error(void *data, const char *words)
{
	struct kubernetes *k = data;

	agent_tell(k->agent, "error", "%s", words);
}

static int start_shares(struct kubernetes *k, struct err **err)
{
	struct shares_world world = {
		.event = k->agent->event,
		.kube = k->kube,
		.namespace = k->namespace,
		.node = k->agent->config.node_name,
		.busy_ms = busy_ms,
		.tell_error = tell_error,
		.data = k,
	};

	return shares_new(&world, &k->shares, err);
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
	if (!k->namespace)
		return err_set(err, ENOMEM, "no memory");
	r = http_client_new(k->agent->event, &k->http, err);
	if (r >= 0)
		r = kube_new(k->http, steal_ptr(config), &k->kube, err);
	if (r >= 0 && !c->without_stop)
		r = stop_start(k, c->stop_config_map, err);
	if (r >= 0 && c->require_label)
		r = view_start(&k->namespaces, k, "the namespaces that opted in", NAMESPACES_PATH, err);
	if (r >= 0)
		r = view_start(&k->pods, k, "this node's pods", pods, err);
	if (r >= 0 && c->authorize)
		r = start_shares(k, err);
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
	shares_free(k->shares);
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

/* The bound of that namespace: *ret_words (caller frees) says whose it is; NULL: there is none. */
static int find_bound(const struct kubernetes *k, const char *namespace, uint32_t *ret_ppm, char **ret_words,
	struct err **err)
{
	uint32_t ppm = k->agent->config.limits.share_max_ppm;
	char text[UNITS_TEXT_MAX];
	const char *annotation = NULL;
	int r;

	if (k->agent->config.kubernetes.require_label) {
		r = namespaces_share(k->namespaces.watch, namespace, &ppm, &annotation, err);
		if (r < 0)
			return r;
	}
	*ret_ppm = ppm;
	*ret_words = NULL;
	if (ppm >= EXPERIMENT_SHARE_ALL)
		return 0;
	r = annotation ? asprintf(ret_words, "%s, by namespace %s's annotation pgjolt.io/max-share",
				 percent_format(ppm, text), namespace) :
			 asprintf(ret_words, "%s, by this agent's --max-share", percent_format(ppm, text));
	return r < 0 ? err_set(err, ENOMEM, "no memory") : 0;
}

/* The claim was made before; without one nothing is armed where a bound holds. */
static int check_share(const struct kubernetes *k, const struct instance_info *i, struct err **err)
{
	_cleanup_free_ char *words = NULL;
	uint32_t ppm;
	int r;

	if (!i->namespace)
		return 0;
	r = find_bound(k, i->namespace, &ppm, &words, err);
	if (r < 0 || !words || (k->shares && shares_is_claimed(k->shares, i->name)))
		return r;
	if (!k->agent->config.kubernetes.authorize && ppm < k->agent->config.limits.share_max_ppm)
		return err_set(err, EPERM, "the share of a cluster is bounded (%s), which this agent can keep "
			"with --authorize kubernetes alone", words);
	if (!k->shares)
		return 0;
	return err_set(err, EBUSY, "instance %s has not been claimed, and the share of a cluster is bounded (%s)",
		i->name, words);
}

int kubernetes_check_target(const struct kubernetes *k, const struct instance_info *i,
	const struct arm_request *request, struct err **err)
{
	int r;

	if (k->agent->config.kubernetes.authorize && !name_is_of_namespace(i))
		return err_set(err, EPERM,
			"instance %s is in no pod: there is no namespace whose rights could be asked", i->name);
	if (k->agent->config.kubernetes.require_label && !k->namespaces.known)
		return err_set(err, EBUSY,
			"which namespaces opted in is not known yet: the Kubernetes API at %s has not told",
			kube_config_of(k->kube)->server);
	r = k->agent->config.kubernetes.require_label ? namespaces_check(k->namespaces.watch, i, request, err) : 0;
	return r < 0 ? r : check_share(k, i, err);
}


static void take(struct kubernetes *k, const struct instance_info *i, const struct arm_request *request,
	share_done done, void *data)
{
	struct share_ask ask = {.instance = i->name, .cluster = i->cluster ? i->cluster : i->name};
	const struct experiment_limits *limits = &k->agent->config.limits;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *words = NULL;
	int r = find_bound(k, i->namespace, &ask.bound_ppm, &words, &err);

	if (r < 0 || !words) {
		done(NULL, r, err_text(err), data);
		return;
	}
	ask.bound_words = words;
	ask.last_ms = request->duration_ms + request->lease_ms;
	ask.pod = pods_find(k->pods.watch, i);
	if (request->duration_ms > limits->duration_max_ms || request->lease_ms > limits->lease_max_ms)
		done(NULL, 0, "", data);	/* refused for that */
	else if (!ask.pod)
		done(NULL, -EAGAIN, "the API server has not told of its pod", data);
	else
		shares_take(k->shares, &ask, done, data);
}

void kubernetes_take_share(struct kubernetes *k, const struct arm_request *request, share_done done, void *data)
{
	struct experiments *all = k->agent->experiments;
	_cleanup_(instance_info_freep) struct instance_info *i = NULL;
	struct experiment *known;
	const char *reason;

	if (!k->shares) {
		done(NULL, k->agent->config.kubernetes.authorize ? -EAGAIN : 0, "the agent is stopping", data);
		return;
	}
	if (experiments_find(all, request->experiment, &known, NULL) != -ENOENT ||
	    !experiments_accepting(all, &reason) ||
	    instance_find(k->agent->config.node_name, request->instance, &i, NULL) < 0 ||
	    !name_is_of_namespace(i)) {
		done(NULL, 0, "", data);
		return;
	}
	kubernetes_describe(k, i);
	take(k, i, request, done, data);
}

void kubernetes_settle_share(struct kubernetes *k, struct share_claim *claim)
{
	if (k->shares)
		shares_settle(k->shares, claim);
}

int kubernetes_check_fire(const struct kubernetes *k, const char *instance, uint64_t duration_ms, struct err **err)
{
	return k->shares ? shares_check_fire(k->shares, instance, duration_ms, err) : 0;
}

void kubernetes_look_at_claims(struct kubernetes *k)
{
	if (k->shares)
		shares_look(k->shares);
}

bool kubernetes_has_claims(const struct kubernetes *k)
{
	return k->shares && shares_are_held(k->shares);
}

void kubernetes_stop_shares(struct kubernetes *k)
{
	shares_free(steal_ptr(k->shares));
}
