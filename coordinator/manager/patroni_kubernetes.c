#include "manager/patroni_kubernetes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/units.h"
#include "manager/kube_manager.h"
#include "manager/patroni_votes.h"

#define STATUS_MAX 65536

enum patroni_object { OBJECT_ENDPOINTS, OBJECT_CONFIGMAPS, OBJECT_OPERATOR };

struct patroni_kubernetes {
	struct kube_manager k;
	const struct patroni_flavour *flavour;
	char *scope;
	char *write, *read;		/* Services */
	char *holder;			/* of the lock, as told last */
	bool holder_known;
	struct patroni_votes *votes;	/* NULL: members are not asked */
};

/* ---- pure ---- */

/* JSON inside an annotation; NULL where there is none that can be read. Caller deletes. */
static cJSON *annotation_json(const cJSON *object, const char *key)
{
	const char *text = object ? kube_annotation(object, key) : NULL;
	cJSON *json = NULL;

	if (!text || strnlen(text, STATUS_MAX) == STATUS_MAX ||
		json_parse(text, strlen(text), &json, NULL) < 0)
		return NULL;
	return json;
}

static const char *text_in(const cJSON *object, const char *name)
{
	const cJSON *item = json_get(object, name);

	return cJSON_IsString(item) && *item->valuestring ? item->valuestring : NULL;
}

/* "pg-1,pg-2" of the annotation sync_standby. */
static bool is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	while (list && *list) {
		size_t n = strcspn(list, ",");

		if (n == length && strncmp(list, name, n) == 0)
			return true;
		list += n + (list[n] == ',');
	}
	return false;
}

static void add_lag(struct cluster_member *m, const cJSON *status, const char *leader_lsn)
{
	const cJSON *own = json_get(status, "xlog_location");
	uint64_t lsn;

	if (!leader_lsn || count_parse(leader_lsn, 0, INT64_MAX, &lsn, NULL) < 0 ||
		!cJSON_IsNumber(own) || !(own->valuedouble >= 0) || own->valuedouble > 9e15)
		return;
	m->lag_bytes = (uint64_t)own->valuedouble >= lsn ? 0 : (int64_t)(lsn - (uint64_t)own->valuedouble);
}

static void add_pod(struct cluster_view *v, const struct patroni_store *s, const struct pod *p)
{
	_cleanup_json_ cJSON *status = annotation_json(p->object, "status");
	const char *state = text_in(status, "state");
	const char *stream = text_in(status, "replication_state");
	const cJSON *timeline = json_get(status, "timeline");
	bool leads = v->leader && strcmp(v->leader, p->name) == 0;
	struct cluster_member *m = &v->members[v->n_members++];

	*m = (struct cluster_member){
		.name = strdup(p->name),
		.role = leads ? ROLE_PRIMARY : ROLE_REPLICA,
		.running = state && strcmp(state, "running") == 0,
		.state = strdup(stream && state && strcmp(state, "running") == 0 ? stream :
				state						 ? state :
										   "unknown"),
		.timeline = cJSON_IsNumber(timeline) && timeline->valuedouble >= 1 &&
				timeline->valuedouble <= UINT32_MAX ?
			(uint32_t)timeline->valuedouble : 0,
		.lag_bytes = -1,
		.sync_standby = !leads && s->sync &&
			is_listed(kube_annotation(s->sync, "sync_standby"), p->name),
	};
	if (!leads && s->leader)
		add_lag(m, status, kube_annotation(s->leader, "optime"));
}

/* true, "on" and "quorum" from Patroni 4 on. */
static bool is_synchronous(const cJSON *config)
{
	const char *mode = text_in(config, "synchronous_mode");

	return cJSON_IsTrue(json_get(config, "synchronous_mode")) ||
		(mode && (strcmp(mode, "quorum") == 0 || strcmp(mode, "on") == 0));
}

struct cluster_view *patroni_store_view(const struct patroni_store *s, const struct pod *pods,
	size_t n_pods, uint64_t at_ns)
{
	_cleanup_json_ cJSON *config = annotation_json(s->config, "config");
	const char *leader = s->leader ? kube_annotation(s->leader, "leader") : NULL;
	struct cluster_view *v = calloc(1, sizeof(*v));

	if (!v)
		abort();
	v->members = calloc(n_pods + 1, sizeof(*v->members));
	if (!v->members)
		abort();
	v->at_ns = at_ns;
	v->source = strdup("Kubernetes");
	v->leader = leader && *leader && !s->unlocked ? strdup(leader) : NULL;
	v->paused = cJSON_IsTrue(json_get(config, "pause"));
	v->synchronous = is_synchronous(config);
	for (size_t i = 0; i < n_pods; i++)
		add_pod(v, s, &pods[i]);
	return v;
}

/* ---- the store now ---- */

static const cJSON *object_named(const struct patroni_kubernetes *p, size_t k, const char *suffix)
{
	_cleanup_free_ char *name = NULL;

	if (asprintf(&name, "%s%s", p->scope, suffix) < 0)
		abort();
	return kube_manager_object(&p->k, k, name);
}

static const cJSON *either(const struct patroni_kubernetes *p, const char *suffix)
{
	const cJSON *object = object_named(p, OBJECT_ENDPOINTS, suffix);

	return object ? object : object_named(p, OBJECT_CONFIGMAPS, suffix);
}

static const cJSON *leader_object(const struct patroni_kubernetes *p)
{
	const cJSON *object = object_named(p, OBJECT_ENDPOINTS, "");

	/* A Service of that name has Endpoints too; those with the lock say so. */
	if (object && (kube_annotation(object, "leader") || kube_annotation(object, "acquireTime")))
		return object;
	return object_named(p, OBJECT_CONFIGMAPS, "-leader");
}

static struct cluster_view *store_view(const struct patroni_kubernetes *p)
{
	struct patroni_store s = {
		.leader = leader_object(p),
		.config = either(p, "-config"),
		.sync = either(p, "-sync"),
		.unlocked = p->votes && patroni_votes_unlocked(p->votes),
	};

	return patroni_store_view(&s, p->k.pods, p->k.n_pods, now_ns());
}

/* What only Kubernetes knows. */
static void complete(const struct patroni_kubernetes *p, struct cluster_view *v)
{
	const cJSON *object = p->flavour->api ?
		kube_manager_object(&p->k, OBJECT_OPERATOR, p->k.name) : NULL;
	_cleanup_json_ cJSON *config = annotation_json(either(p, "-config"), "config");

	kube_manager_dress(&p->k, v);
	v->paused = v->paused || cJSON_IsTrue(json_get(config, "pause"));
	v->synchronous = v->synchronous || is_synchronous(config);
	if (object && p->flavour->judge)
		p->flavour->judge(object, v);
}

static void show_store(struct kube_manager *m)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;
	struct cluster_view *v;

	if (!m->listener.view)
		return;
	v = store_view(p);
	complete(p, v);
	m->listener.view(v, m->listener.data);
	cluster_view_free(v);
}

static void on_votes(void *data)
{
	struct patroni_kubernetes *p = data;

	show_store(&p->k);
}

static void on_pods(struct kube_manager *m)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;

	for (size_t i = 0; p->votes && i < m->n_pods; i++)
		patroni_votes_move(p->votes, m->pods[i].name, m->pods[i].addresses);
	show_store(m);
}

static void on_store(struct kube_manager *m, enum kube_change change, const cJSON *object)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;
	const cJSON *leader = leader_object(p);
	const char *holder = leader ? kube_annotation(leader, "leader") : NULL;
	bool same;

	(void)change;
	(void)object;
	if (!leader)
		return;
	holder = holder && *holder ? holder : NULL;
	same = p->holder && holder ? strcmp(p->holder, holder) == 0 : !p->holder && !holder;
	if (same && p->holder_known) {
		show_store(m);
		return;
	}
	free(p->holder);
	p->holder = holder ? strdup(holder) : NULL;
	p->holder_known = true;
	kube_manager_tell(m, EVENT_CHOSEN, holder, holder ? holder : "none",
		holder ? "store: %s holds the leader's lock" : "store: the leader's lock was given back",
		holder);
	show_store(m);
}

static void on_operator(struct kube_manager *m, enum kube_change change, const cJSON *object)
{
	(void)change;
	(void)object;
	show_store(m);
}

/* ---- the manager ---- */

static int patroni_kubernetes_read(struct manager *m, struct cluster_view **ret, struct err **err)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;

	(void)err;
	*ret = store_view(p);
	complete(p, *ret);
	return 0;
}

static int patroni_kubernetes_watch(struct manager *m, uint64_t interval_ms,
	const struct manager_listener *l, struct err **err)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;
	int r = kube_manager_listen(&p->k, l, err);

	if (r >= 0 && p->votes)
		r = patroni_votes_start(p->votes, interval_ms, err);
	return r;
}

static int patroni_kubernetes_dcs(struct manager *m, char ***ret, struct err **err)
{
	return kube_manager_apiserver(((struct patroni_kubernetes *)m)->k.kube, ret, err);
}

static struct manager_services patroni_kubernetes_services(struct manager *m)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;

	return (struct manager_services){p->write, p->read};
}

static void patroni_kubernetes_free(struct manager *m)
{
	struct patroni_kubernetes *p = (struct patroni_kubernetes *)m;

	patroni_votes_free(p->votes);
	kube_manager_done(&p->k);
	free(p->scope);
	free(p->write);
	free(p->read);
	free(p->holder);
	free(p);
}

static const struct manager_ops ops = {
	.read = patroni_kubernetes_read,
	.watch = patroni_kubernetes_watch,
	.dcs_addresses = patroni_kubernetes_dcs,
	.services = patroni_kubernetes_services,
	.free = patroni_kubernetes_free,
};

static char *joined(const char *a, const char *b)
{
	char *text = NULL;

	if (b && asprintf(&text, "%s%s", a, b) < 0)
		abort();
	return text;
}

static int watch_store(struct patroni_kubernetes *p, const char *label, struct err **err)
{
	static const char *const kinds[] = {
		[OBJECT_ENDPOINTS] = "endpoints",
		[OBJECT_CONFIGMAPS] = "configmaps",
	};
	const struct patroni_flavour *f = p->flavour;
	int r = 0;

	/* Which of both it is depends on Patroni's use_endpoints: the other's list is empty. */
	for (size_t i = 0; r >= 0 && i < ELEMENTS(kinds); i++)
		r = kube_manager_add(&p->k, "/api/v1", kinds[i], label, true, on_store, err);
	if (r >= 0 && f->api)
		r = kube_manager_add(&p->k, f->api, f->resource, NULL, true, on_operator, err);
	return r;
}

static int open_with(const struct patroni_flavour *f, const char *label, const struct manager_world *w,
	struct manager **ret, struct err **err)
{
	const char *namespace = kube_namespace(w->pod), *name = kube_label(w->pod, label);
	struct patroni_kubernetes *p = calloc(1, sizeof(*p));
	_cleanup_free_ char *selector = NULL;
	int r;

	if (!p || asprintf(&selector, "%s=%s%s", label, name, f->pods_too) < 0)
		abort();
	p->flavour = f;
	p->k.base = (struct manager){f->driver, &ops};
	p->k.pods_changed = on_pods;
	p->scope = joined(name, f->scope_suffix);
	p->write = joined(name, f->write_suffix);
	p->read = joined(name, f->read_suffix);
	r = kube_manager_init(&p->k, w, namespace, name, selector, err);
	if (r >= 0) {
		p->k.kind = f->kind ? strdup(f->kind) : NULL;
		r = watch_store(p, label, err);
	}
	if (r >= 0 && f->rest)
		patroni_votes_new(w->http, w->event, w->instances, w->n, on_votes, p, &p->votes);
	if (r < 0) {
		patroni_kubernetes_free(&p->k.base);
		return err_wrap(err, r, "%s", f->driver->name);
	}
	*ret = &p->k.base;
	return 0;
}

int patroni_flavour_detect(const struct patroni_flavour *f, const char *also, const char *value,
	const struct manager_world *w, struct err **err)
{
	const char *label = w->pod ? kube_label(w->pod, f->label) : NULL;
	const char *other = w->pod && also ? kube_label(w->pod, also) : NULL;

	if (label && *label && (!also || (other && strcmp(other, value) == 0)))
		return 0;
	return err_set(err, -ENOENT, "the instances' pods have no label %s%s%s%s%s", f->label,
		also ? ", or no " : "", also ? also : "", also ? "=" : "", also ? value : "");
}

int patroni_flavour_open(const struct patroni_flavour *f, const struct manager_world *w,
	struct manager **ret, struct err **err)
{
	return open_with(f, f->label, w, ret, err);
}

/* ---- Patroni without an operator ---- */

/* The label of the scope: Patroni's own name for it (kubernetes.scope_label, by default
 * "cluster-name"), else the one whose value is the cluster's name. */
static const char *scope_label(const struct manager_world *w)
{
	const char *name = w->cluster ? strchr(w->cluster, '/') : NULL;
	const cJSON *labels = kube_field(w->pod, "metadata.labels"), *item;

	if (kube_label(w->pod, "cluster-name"))
		return "cluster-name";
	if (name && cJSON_IsObject(labels))
		cJSON_ArrayForEach(item, labels)
			if (cJSON_IsString(item) && strcmp(item->valuestring, name + 1) == 0)
				return item->string;
	return NULL;
}

static int detect(const struct manager_world *w, struct err **err)
{
	_cleanup_json_ cJSON *status = w->pod ? annotation_json(w->pod, "status") : NULL;

	/* What each member writes about itself (Patroni's touch_member()). */
	if (text_in(status, "api_url") && text_in(status, "conn_url") && scope_label(w))
		return 0;
	return err_set(err, -ENOENT, "the instances' pods have no annotation \"status\" of Patroni's, or "
		"no label with its scope");
}

static const struct patroni_flavour flavour;

static int open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	return open_with(&flavour, scope_label(w), w, ret, err);
}

const struct manager_driver manager_patroni_kubernetes = {
	.name = "patroni-kubernetes",
	.detect = detect,
	.open = open,
};

static const struct patroni_flavour flavour = {
	.driver = &manager_patroni_kubernetes,
	.label = "cluster-name",
	.pods_too = "",
	.scope_suffix = "",
	.rest = true,
	/* Which Service leads to the primary is found by its selector. */
};
