#include "manager/cnpg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "manager/cnpg_quorum.h"
#include "manager/kube_manager.h"

#define LABEL_CLUSTER "cnpg.io/cluster"
#define LABEL_ROLE    "cnpg.io/instanceRole"
#define PHASE_HEALTHY "Cluster in healthy state"
#define PENDING	      "pending"
/* More instances than any Cluster has; what is beyond is not shown. */
#define MEMBERS_MAX 128

enum cnpg_object { OBJECT_CLUSTER, OBJECT_QUORUM, OBJECT_LEASE };

struct cnpg {
	struct kube_manager k;
	char *write, *read;			/* its Services */
	char *target, *phase, *holder, *quorum;	/* as told last */
};

/* ---- pure ---- */

static bool contains_text(const cJSON *list, const char *text)
{
	const cJSON *item;

	if (cJSON_IsArray(list))
		cJSON_ArrayForEach(item, list)
			if (cJSON_IsString(item) && strcmp(item->valuestring, text) == 0)
				return true;
	return false;
}

/* `["*"]` or `["main-1"]`: a JSON list inside the annotation. */
static char *fenced(const cJSON *cluster)
{
	const char *text = kube_annotation(cluster, "cnpg.io/fencedInstances");
	_cleanup_json_ cJSON *list = NULL;
	char *why = NULL;

	if (!text || !*text)
		return NULL;
	/* What cannot be read is taken for a fence: the operator would refuse to act as well. */
	if (json_parse(text, strlen(text), &list, NULL) >= 0 && cJSON_IsArray(list) && !list->child)
		return NULL;
	if (asprintf(&why, "instances are fenced (cnpg.io/fencedInstances %.200s): a fenced primary is "
		"not failed over", text) < 0)
		abort();
	return why;
}

static bool annotation_is(const cJSON *object, const char *key, const char *value)
{
	const char *text = kube_annotation(object, key);

	return text && strcmp(text, value) == 0;
}

char *cnpg_refusal(const cJSON *cluster)
{
	const char *why = NULL;
	char *copy = fenced(cluster);

	if (copy)
		return copy;
	if (annotation_is(cluster, "cnpg.io/reconciliationLoop", "disabled"))
		why = "its reconciliation is off (cnpg.io/reconciliationLoop=disabled): the operator "
		      "would not act";
	else if (annotation_is(cluster, "cnpg.io/hibernation", "on"))
		why = "it is hibernated (cnpg.io/hibernation=on)";
	else if (cJSON_IsTrue(kube_field(cluster, "spec.nodeMaintenanceWindow.inProgress")))
		why = "a maintenance window is open (spec.nodeMaintenanceWindow.inProgress): instances "
		      "are not created anew";
	else if (cJSON_IsTrue(kube_field(cluster, "spec.replica.enabled")))
		why = "it is a replica cluster (spec.replica.enabled): nothing in it takes writes";
	copy = why ? strdup(why) : NULL;
	if (why && !copy)
		abort();
	return copy;
}

static bool is_synchronous(const cJSON *cluster)
{
	const cJSON *number = kube_field(cluster, "spec.postgresql.synchronous.number");
	const cJSON *older = kube_field(cluster, "spec.minSyncReplicas");

	return (cJSON_IsNumber(number) && number->valuedouble > 0) ||
		(cJSON_IsNumber(older) && older->valuedouble > 0);
}

static uint32_t timeline_of(const cJSON *number)
{
	return cJSON_IsNumber(number) && number->valuedouble >= 1 && number->valuedouble <= UINT32_MAX ?
		(uint32_t)number->valuedouble : 0;
}

static const char *state_of(const struct pod *p, const char *label_role)
{
	if (!p)
		return "no pod";
	if (p->deleting)
		return "deleting";
	if (label_role && strcmp(label_role, "unhealthy") == 0)
		return "unhealthy";
	return p->ready ? "running" : "not ready";
}

static void add_member(struct cluster_view *v, const cJSON *cluster, const cJSON *quorum,
	const char *name, const struct pod *p)
{
	const cJSON *reported =
		json_get(kube_field(cluster, "status.instancesReportedState"), name);
	const char *label_role = p ? kube_label(p->object, LABEL_ROLE) : NULL;
	bool leads = v->leader && strcmp(v->leader, name) == 0;
	struct cluster_member *m;

	if (v->n_members == MEMBERS_MAX)
		return;
	m = &v->members[v->n_members++];
	*m = (struct cluster_member){
		.name = strdup(name),
		.role = leads ? ROLE_PRIMARY : ROLE_REPLICA,
		.running = p && p->ready && !p->deleting,
		.state = strdup(state_of(p, label_role)),
		.timeline = timeline_of(json_get(reported, "timeLineID")),
		.lag_bytes = -1,
	};
	if (!m->timeline && leads)
		m->timeline = timeline_of(kube_field(cluster, "status.timelineID"));
	/* Only with a failover quorum is it told which replicas commits wait for; else it is all that the
	 * operator names to PostgreSQL, and those are the ready ones. */
	m->sync_standby = !leads && v->synchronous &&
		(quorum ? contains_text(kube_field(quorum, "status.standbyNames"), name) : m->running);
}

static const struct pod *pod_named(const struct pod *pods, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(pods[i].name, name) == 0)
			return &pods[i];
	return NULL;
}

/* Poolers bear the cluster's label too. */
static bool is_instance(const struct pod *p)
{
	const char *role = kube_label(p->object, "cnpg.io/podRole");

	return role ? strcmp(role, "instance") == 0 :
		      kube_label(p->object, "cnpg.io/instanceName") != NULL;
}

static void read_phase(const cJSON *cluster, struct cluster_view *v)
{
	const char *phase = kube_text(cluster, "status.phase");
	const char *reason = kube_text(cluster, "status.phaseReason");

	if (phase && strcmp(phase, PHASE_HEALTHY) == 0)
		return;
	if (asprintf(&v->unsettled, "%.200s%s%.200s", phase && *phase ? phase : "no phase yet",
		reason && *reason ? ": " : "", reason ? reason : "") < 0)
		abort();
}

/* A time of the cluster's clock, for texts alone: nothing is reckoned by it. NULL: it says none. */
static char *time_word(const cJSON *cluster, const char *path)
{
	const char *text = kube_text(cluster, path);
	char word[CNPG_WORD];

	return text && *text ? text_format("%s", cnpg_word(word, text)) : NULL;
}

int cnpg_parse_cluster(const cJSON *cluster, const cJSON *quorum, const struct pod *pods, size_t n_pods,
	uint64_t at_ns, struct cluster_view **ret, struct err **err)
{
	const cJSON *names = kube_field(cluster, "status.instanceNames"), *item;
	const char *primary = kube_text(cluster, "status.currentPrimary");
	struct cluster_view *v;

	if (!*kube_name(cluster))
		return err_set(err, -EPROTO, "the API server sent a Cluster without a name");
	v = calloc(1, sizeof(*v));
	if (!v)
		abort();
	v->members = calloc(MEMBERS_MAX, sizeof(*v->members));
	if (!v->members)
		abort();
	v->at_ns = at_ns;
	v->source = strdup("Cluster");
	v->leader = primary && *primary ? strdup(primary) : NULL;
	v->leader_since = v->leader ? time_word(cluster, "status.currentPrimaryTimestamp") : NULL;
	v->synchronous = is_synchronous(cluster);
	v->refuse = cnpg_refusal(cluster);
	read_phase(cluster, v);
	for (size_t i = 0; i < n_pods; i++)
		if (is_instance(&pods[i]))
			add_member(v, cluster, quorum, pods[i].name, &pods[i]);
	if (cJSON_IsArray(names))
		cJSON_ArrayForEach(item, names)
			if (cJSON_IsString(item) && !pod_named(pods, n_pods, item->valuestring))
				add_member(v, cluster, quorum, item->valuestring, NULL);
	*ret = v;
	return 0;
}

/* ---- as things change ---- */

static bool take_text(char **old, const char *new)
{
	if (new && !*new)
		new = NULL;
	if (*old && new ? strcmp(*old, new) == 0 : !*old && !new)
		return false;
	free(*old);
	*old = new ? strdup(new) : NULL;
	return true;
}

/* Of an API server that has not told of the quorum (an older operator, no right to it) nothing is
 * known. */
static enum cnpg_quorum quorum_now(const struct cnpg *c, const cJSON *cluster, char **ret)
{
	*ret = NULL;
	if (!cluster || !kube_manager_known(&c->k, OBJECT_QUORUM))
		return QUORUM_OFF;
	return cnpg_quorum_judge(cluster, kube_manager_object(&c->k, OBJECT_QUORUM, c->k.name), c->k.pods,
		c->k.n_pods, ret);
}

/* A quorum that refuses stays so until replicas come back; one that was reset is written anew. */
static void heed_quorum(const struct cnpg *c, const cJSON *cluster, struct cluster_view *v)
{
	_cleanup_free_ char *text = NULL;
	enum cnpg_quorum q = quorum_now(c, cluster, &text);

	if (q == QUORUM_REFUSES && !v->refuse)
		v->refuse = steal_ptr(text);
	if (q == QUORUM_RESET && !v->unsettled)
		v->unsettled = steal_ptr(text);
}

static int view_now(struct cnpg *c, struct cluster_view **ret, struct err **err)
{
	const cJSON *cluster = kube_manager_object(&c->k, OBJECT_CLUSTER, c->k.name);
	int r;

	if (!cluster)
		return err_set(err, -ESTALE, "Cluster %s/%s is gone", c->k.namespace, c->k.name);
	r = cnpg_parse_cluster(cluster, kube_manager_object(&c->k, OBJECT_QUORUM, c->k.name), c->k.pods,
		c->k.n_pods, now_ns(), ret, err);
	if (r < 0)
		return r;
	kube_manager_dress(&c->k, *ret);
	heed_quorum(c, cluster, *ret);
	return 0;
}

static void tell_quorum(struct kube_manager *m)
{
	struct cnpg *c = (struct cnpg *)m;
	_cleanup_free_ char *text = NULL;

	if (!m->listener.event)
		return;
	quorum_now(c, kube_manager_object(m, OBJECT_CLUSTER, m->name), &text);
	if (take_text(&c->quorum, text))
		kube_manager_tell(m, EVENT_KUBERNETES, NULL, "FailoverQuorum", "%s",
			c->quorum ? c->quorum : "quorum: none is told of any more");
}

static void show(struct kube_manager *m)
{
	struct cluster_view *v = NULL;

	tell_quorum(m);
	if (!m->listener.view || view_now((struct cnpg *)m, &v, NULL) < 0)
		return;
	m->listener.view(v, m->listener.data);
	cluster_view_free(v);
}

static void tell_target(struct cnpg *c, const cJSON *cluster)
{
	_cleanup_free_ char *when = time_word(cluster, "status.targetPrimaryTimestamp");
	const char *asked = when ? ", asked for at " : "";

	if (!c->target)
		kube_manager_tell(&c->k, EVENT_CHOSEN, NULL, "none", "operator: no target primary");
	else if (strcmp(c->target, PENDING) == 0)
		kube_manager_tell(&c->k, EVENT_CHOSEN, c->target, c->target,
			"operator: the primary is given up, a new one is to be chosen%s%s", asked,
			when ? when : "");
	else
		kube_manager_tell(&c->k, EVENT_CHOSEN, c->target, c->target,
			"operator: %.253s is to be primary%s%s", c->target, asked, when ? when : "");
}

static void on_cluster(struct kube_manager *m, enum kube_change change, const cJSON *cluster)
{
	struct cnpg *c = (struct cnpg *)m;
	const char *phase = kube_text(cluster, "status.phase");
	const char *reason = kube_text(cluster, "status.phaseReason");

	if (strcmp(kube_name(cluster), m->name) != 0)
		return;
	if (change == KUBE_DELETED) {
		kube_manager_tell(m, EVENT_PHASE, NULL, "fail", "Cluster %s is gone", m->name);
		return;
	}
	if (take_text(&c->target, kube_text(cluster, "status.targetPrimary")))
		tell_target(c, cluster);
	if (take_text(&c->phase, phase))
		kube_manager_tell(m, EVENT_PHASE, NULL,
			c->phase && strcmp(c->phase, PHASE_HEALTHY) == 0 ? "ok" : "fail",
			"operator: %.200s%s%.200s", c->phase ? c->phase : "no phase",
			reason && *reason ? ": " : "", reason ? reason : "");
	show(m);
}

static void on_quorum(struct kube_manager *m, enum kube_change change, const cJSON *object)
{
	(void)change;
	(void)object;
	show(m);
}

/* The primary's lease, from 1.30 on: who takes it is about to promote. */
static void on_lease(struct kube_manager *m, enum kube_change change, const cJSON *lease)
{
	struct cnpg *c = (struct cnpg *)m;
	bool gone = change == KUBE_DELETED;

	if (strcmp(kube_name(lease), m->name) != 0 ||
		!take_text(&c->holder, gone ? NULL : kube_text(lease, "spec.holderIdentity")))
		return;
	if (c->holder)
		kube_manager_tell(m, EVENT_KUBERNETES, c->holder, "Lease",
			"lease: %.253s holds the primary's lease", c->holder);
	else
		kube_manager_tell(m, EVENT_KUBERNETES, NULL, "Lease", "lease: %s",
			gone ? "it is gone, nobody holds it" : "nobody holds it");
}

/* ---- the driver ---- */

static int cnpg_detect(const struct manager_world *w, struct err **err)
{
	return w->pod && kube_label(w->pod, LABEL_CLUSTER) ? 0 :
		err_set(err, -ENOENT, "the instances' pods have no label " LABEL_CLUSTER);
}

static int cnpg_read(struct manager *m, struct cluster_view **ret, struct err **err)
{
	return view_now((struct cnpg *)m, ret, err);
}

static int cnpg_watch(struct manager *m, uint64_t interval_ms, const struct manager_listener *l,
	struct err **err)
{
	struct cnpg *c = (struct cnpg *)m;
	int r = kube_manager_listen(&c->k, l, err);

	(void)interval_ms;
	/* What it is at the beginning: the rest is told as it changes. */
	if (r >= 0)
		tell_quorum(&c->k);
	return r;
}

/* What the operator and the instances coordinate by: the API server. */
static int cnpg_dcs(struct manager *m, char ***ret, struct err **err)
{
	return kube_manager_apiserver(((struct cnpg *)m)->k.kube, ret, err);
}

static struct manager_services cnpg_services(struct manager *m)
{
	struct cnpg *c = (struct cnpg *)m;

	return (struct manager_services){c->write, c->read};
}

static void cnpg_free(struct manager *m)
{
	struct cnpg *c = (struct cnpg *)m;

	kube_manager_done(&c->k);
	free(c->write);
	free(c->read);
	free(c->target);
	free(c->phase);
	free(c->holder);
	free(c->quorum);
	free(c);
}

static const struct manager_ops ops = {
	.read = cnpg_read,
	.watch = cnpg_watch,
	.dcs_addresses = cnpg_dcs,
	.services = cnpg_services,
	.free = cnpg_free,
};

static int watch_objects(struct cnpg *c, struct err **err)
{
	static const struct {
		const char *api, *resource;
		void (*changed)(struct kube_manager *m, enum kube_change change, const cJSON *object);
	} objects[] = {
		[OBJECT_CLUSTER] = {"/apis/postgresql.cnpg.io/v1", "clusters", on_cluster},
		[OBJECT_QUORUM] = {"/apis/postgresql.cnpg.io/v1", "failoverquorums", on_quorum},
		[OBJECT_LEASE] = {"/apis/coordination.k8s.io/v1", "leases", on_lease},
	};
	int r = 0;

	/* Older operators have no quorum and no lease. */
	for (size_t i = 0; r >= 0 && i < ELEMENTS(objects); i++)
		r = kube_manager_add(&c->k, objects[i].api, objects[i].resource, NULL,
			i == OBJECT_CLUSTER, objects[i].changed, err);
	return r;
}

static int cnpg_open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	const char *namespace = kube_namespace(w->pod), *name = kube_label(w->pod, LABEL_CLUSTER);
	_cleanup_free_ char *selector = NULL;
	struct cnpg *c = calloc(1, sizeof(*c));
	int r;

	if (!c || asprintf(&selector, LABEL_CLUSTER "=%s", name) < 0 ||
		asprintf(&c->write, "%s-rw", name) < 0 || asprintf(&c->read, "%s-ro", name) < 0)
		abort();
	c->k.base = (struct manager){&manager_cnpg, &ops};
	c->k.pods_changed = show;
	r = kube_manager_init(&c->k, w, namespace, name, selector, err);
	if (r >= 0) {
		c->k.kind = strdup("Cluster");
		r = watch_objects(c, err);
	}
	if (r < 0) {
		cnpg_free(&c->k.base);
		return err_wrap(err, r, "CloudNativePG");
	}
	*ret = &c->k.base;
	return 0;
}

const struct manager_driver manager_cnpg = {
	.name = "cnpg",
	.detect = cnpg_detect,
	.open = cnpg_open,
};
