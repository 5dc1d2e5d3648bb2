#include "manager/kube_manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/text.h"
#include "kubernetes/services.h"

#define FIRST_LIST_NS (5 * NS_PER_S)
#define REPEAT_NS     (30 * NS_PER_S)

/* ---- telling ---- */

void kube_manager_tell(struct kube_manager *m, enum event_kind kind, const char *pod,
	const char *value, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	struct manager_event e = {.kind = kind, .value = value};
	va_list ap;

	if (!m->listener.event)
		return;
	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	e.text = text;
	e.instance = pod ? pod_instance(m->namespace, pod, m->instances, m->n_instances) : NULL;
	m->listener.event(&e, m->listener.data);
}

static void tell_pod(enum event_kind kind, const char *pod, const char *value, const char *text,
	void *data)
{
	kube_manager_tell(data, kind, pod, value, "%s", text);
}

static void tell_reach(struct kube_manager *m, enum kube_change change)
{
	if (change == KUBE_LOST && !m->lost)
		kube_manager_tell(m, EVENT_NOTE, NULL, "fail", "the API server does not answer us");
	if (change == KUBE_SYNCED && m->lost)
		kube_manager_tell(m, EVENT_NOTE, NULL, "ok", "the API server answers us again");
	if (change == KUBE_LOST)
		m->lost = true;
	if (change == KUBE_SYNCED)
		m->lost = false;
}

/* ---- pods ---- */

static struct pod *find_pod(const struct kube_manager *m, const char *name)
{
	for (size_t i = 0; i < m->n_pods; i++)
		if (strcmp(m->pods[i].name, name) == 0)
			return &m->pods[i];
	return NULL;
}

const struct pod *kube_manager_pod(const struct kube_manager *m, const char *name)
{
	return find_pod(m, name);
}

static void remove_pod(struct kube_manager *m, struct pod *p)
{
	if (m->pods_known)
		pod_compare(p, NULL, tell_pod, m);
	pod_done(p);
	*p = m->pods[--m->n_pods];
}

static void set_pod(struct kube_manager *m, struct pod *p)
{
	struct pod *old = find_pod(m, p->name), *all;

	if (m->pods_known)
		pod_compare(old, p, tell_pod, m);
	if (old) {
		pod_done(old);
		*old = *p;
		return;
	}
	all = reallocarray(m->pods, m->n_pods + 1, sizeof(*all));
	if (!all)
		abort();
	m->pods = all;
	m->pods[m->n_pods++] = *p;
}

static void on_pod(enum kube_change change, const cJSON *object, void *data)
{
	struct kube_manager *m = data;
	struct pod p = {0}, *old;

	tell_reach(m, change);
	if (change == KUBE_SYNCED)
		m->pods_known = true;
	if (!object || pod_read(object, &p, NULL) < 0)
		return;
	if (change == KUBE_DELETED) {
		old = find_pod(m, p.name);
		/* The end of one that another has replaced by now is no news. */
		if (old && p.uid && old->uid && strcmp(p.uid, old->uid) != 0)
			old = NULL;
		if (old)
			remove_pod(m, old);
		pod_done(&p);
	} else {
		set_pod(m, &p);
	}
	if (m->pods_known && m->pods_changed && m->listener.view)
		m->pods_changed(m);
}

/* ---- Kubernetes events ---- */

static bool concerns_us(const struct kube_manager *m, const cJSON *event)
{
	const char *kind = kube_text(event, "involvedObject.kind");
	const char *name = kube_text(event, "involvedObject.name");

	if (!kind || !name)
		return false;
	if (strcmp(kind, "Pod") == 0)
		return find_pod(m, name) ||
			pod_instance(m->namespace, name, m->instances, m->n_instances);
	return m->kind && strcmp(kind, m->kind) == 0 && strcmp(name, m->name) == 0;
}

/* A kubelet says once a second that a probe failed: the first time and each half a minute are enough. */
static bool was_told(struct kube_manager *m, const char *object, const char *reason)
{
	uint64_t now = now_ns();
	struct kube_manager_told *t;

	for (size_t i = 0; i < KUBE_MANAGER_TOLD; i++) {
		t = &m->told[i];
		if (!t->object || strcmp(t->object, object) != 0 || strcmp(t->reason, reason) != 0)
			continue;
		if (now - t->at_ns < REPEAT_NS)
			return true;
		t->at_ns = now;
		return false;
	}
	t = &m->told[m->next_told];
	m->next_told = (m->next_told + 1) % KUBE_MANAGER_TOLD;
	free(t->object);
	free(t->reason);
	*t = (struct kube_manager_told){strdup(object), strdup(reason), now};
	if (!t->object || !t->reason)
		abort();
	return false;
}

static void on_event(enum kube_change change, const cJSON *object, void *data)
{
	struct kube_manager *m = data;
	const char *reason, *message, *kind, *name;
	bool pod;

	if (change == KUBE_SYNCED)
		m->events_known = true;
	/* The list of the beginning is of the past. */
	if (!object || change == KUBE_DELETED || !m->events_known || !concerns_us(m, object))
		return;
	reason = kube_text(object, "reason");
	message = kube_text(object, "message");
	kind = kube_text(object, "involvedObject.kind");
	name = kube_text(object, "involvedObject.name");
	pod = strcmp(kind, "Pod") == 0;
	if (!reason || was_told(m, name, reason))
		return;
	kube_manager_tell(m, EVENT_KUBERNETES, pod ? name : NULL, reason, "%.63s %.253s: %.100s%s%.300s",
		kind, name, reason, message && *message ? ": " : "", message ? message : "");
}

/* ---- the driver's own objects ---- */

static void on_object(enum kube_change change, const cJSON *object, void *data)
{
	struct kube_manager_object *o = data;

	if (change == KUBE_SYNCED)
		o->known = true;
	if (object)
		o->changed(o->manager, change, object);
}

int kube_manager_add(struct kube_manager *m, const char *api, const char *resource, const char *label,
	bool needed,
	void (*changed)(struct kube_manager *m, enum kube_change change, const cJSON *object),
	struct err **err)
{
	struct kube_manager_object *o = &m->objects[m->n_objects];
	_cleanup_free_ char *selector = NULL, *rest = NULL, *path = NULL;
	int r;

	if (asprintf(&selector, "%s=%s", label ? label : "metadata.name", m->name) < 0)
		abort();
	rest = label ? kube_path("/namespaces/%s/%s?labelSelector=%s", m->namespace, resource, selector) :
		       kube_path("/namespaces/%s/%s?fieldSelector=%s", m->namespace, resource, selector);
	if (asprintf(&path, "%s%s", api, rest) < 0)
		abort();
	o->manager = m;
	o->changed = changed;
	r = kube_watch_start(m->kube, path, on_object, o, &o->watch, err);
	if (r < 0)
		return err_wrap(err, r, "%s", resource);
	m->n_objects++;
	r = kube_watch_wait(o->watch, FIRST_LIST_NS, needed ? err : NULL);
	return r < 0 && needed ? err_wrap(err, r, "%s of %s", resource, m->namespace) : 0;
}

bool kube_manager_known(const struct kube_manager *m, size_t k)
{
	return k < m->n_objects && m->objects[k].known;
}

const cJSON *kube_manager_object(const struct kube_manager *m, size_t k, const char *name)
{
	const struct kube_watch *w = k < m->n_objects ? m->objects[k].watch : NULL;

	for (size_t i = 0; w && i < kube_watch_count(w); i++)
		if (strcmp(kube_name(kube_watch_object(w, i)), name) == 0)
			return kube_watch_object(w, i);
	return NULL;
}

/* ---- life ---- */

int kube_manager_init(struct kube_manager *m, const struct manager_world *w, const char *namespace,
	const char *name, const char *selector, struct err **err)
{
	_cleanup_free_ char *path =
		kube_path("/api/v1/namespaces/%s/pods?labelSelector=%s", namespace, selector);
	int r;

	m->kube = w->kube;
	m->namespace = strdup(namespace);
	m->name = strdup(name);
	m->instances = calloc(w->n + 1, sizeof(*m->instances));
	if (!m->namespace || !m->name || !m->instances)
		abort();
	for (size_t i = 0; i < w->n; i++)
		m->instances[m->n_instances++] = instance_info_copy(w->instances[i]);
	r = kube_watch_start(m->kube, path, on_pod, m, &m->pod_watch, err);
	if (r >= 0)
		r = kube_watch_wait(m->pod_watch, FIRST_LIST_NS, err);
	if (r >= 0)
		return 0;
	kube_manager_done(m);
	return err_wrap(err, r, "pods of %s/%s", namespace, name);
}

int kube_manager_listen(struct kube_manager *m, const struct manager_listener *l, struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/events", m->namespace);

	m->listener = *l;
	/* Without the right to read events, the rest is told all the same. */
	return kube_watch_start(m->kube, path, on_event, m, &m->event_watch, err);
}

void kube_manager_done(struct kube_manager *m)
{
	for (size_t i = 0; i < m->n_objects; i++)
		kube_watch_stop(m->objects[i].watch);
	m->n_objects = 0;
	if (m->event_watch)
		kube_watch_stop(m->event_watch);
	if (m->pod_watch)
		kube_watch_stop(m->pod_watch);
	m->event_watch = m->pod_watch = NULL;
	for (size_t i = 0; i < m->n_pods; i++)
		pod_done(&m->pods[i]);
	for (size_t i = 0; i < KUBE_MANAGER_TOLD; i++) {
		free(m->told[i].object);
		free(m->told[i].reason);
		m->told[i] = (struct kube_manager_told){0};
	}
	free(m->pods);
	for (size_t i = 0; i < m->n_instances; i++)
		instance_info_free(m->instances[i]);
	free(m->instances);
	free(m->namespace);
	free(m->name);
	free(m->kind);
	m->pods = NULL;
	m->instances = NULL;
	m->namespace = m->name = m->kind = NULL;
	m->n_pods = m->n_instances = 0;
}

void kube_manager_dress(const struct kube_manager *m, struct cluster_view *v)
{
	for (size_t i = 0; i < v->n_members; i++) {
		struct cluster_member *c = &v->members[i];
		const struct pod *p = find_pod(m, c->name);
		const char *instance =
			pod_instance(m->namespace, c->name, m->instances, m->n_instances);

		if (instance) {
			free(c->instance);
			c->instance = strdup(instance);
		}
		if (!p)
			continue;
		free(c->address);
		free(c->node);
		c->address = p->address ? strdup(p->address) : NULL;
		c->node = p->node ? strdup(p->node) : NULL;
	}
}

/* ---- the API server ---- */

static void push_address(char ***list, const char *address, uint16_t port)
{
	char *text = NULL;

	if (asprintf(&text, strchr(address, ':') ? "[%s/128]:%u" : "%s/32:%u", address, port) < 0)
		abort();
	if (port && !strv_contains(*list, text))
		strv_push(list, text);
	else
		free(text);
}

int kube_manager_apiserver(struct kube *k, char ***ret, struct err **err)
{
	_cleanup_(services_done) struct services all = {0};
	_cleanup_strv_ char **list = NULL;
	const struct service *s;
	int r = services_read(k, "default", &all, err);

	if (r < 0)
		return err_wrap(err, r, "the API server's addresses");
	s = services_find(&all, "kubernetes");
	for (size_t i = 0; s && s->addresses && s->addresses[i]; i++)
		for (size_t p = 0; p < s->n_ports; p++)
			push_address(&list, s->addresses[i], s->ports[p].port);
	for (size_t i = 0; s && i < s->n_endpoints; i++)
		push_address(&list, s->endpoints[i].address, s->endpoints[i].port);
	*ret = steal_ptr(list);
	return 0;
}
