#include "manager/statefulset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "manager/kube_manager.h"
#include "manager/plain.h"

struct statefulset {
	struct kube_manager k;
	struct manager *roles;		/* manager/plain.c */
};

static const char *state_of(const struct pod *p)
{
	return p->deleting ? "deleting" : p->ready ? "running" : "not ready";
}

static struct cluster_member *member_named(struct cluster_view *v, const char *name)
{
	for (size_t i = 0; i < v->n_members; i++)
		if (strcmp(v->members[i].name, name) == 0)
			return &v->members[i];
	return NULL;
}

static bool has_pod(const struct pod *pods, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(pods[i].name, name) == 0)
			return true;
	return false;
}

static void set_state(struct cluster_member *m, bool running, const char *state)
{
	m->running = running;
	free(m->state);
	m->state = strdup(state);
}

void statefulset_add_pods(struct cluster_view *v, const struct pod *pods, size_t n_pods,
	const char *owner)
{
	struct cluster_member *all = reallocarray(v->members, v->n_members + n_pods + 1, sizeof(*all));

	if (!all)
		abort();
	v->members = all;
	for (size_t i = 0; i < v->n_members; i++)
		if (!has_pod(pods, n_pods, v->members[i].name))
			set_state(&v->members[i], false, "no pod");
	for (size_t i = 0; i < n_pods; i++) {
		const struct pod *p = &pods[i];
		struct cluster_member *m = member_named(v, p->name);
		const char *name = NULL, *kind = pod_controller(p->object, &name);

		if (!kind || strcmp(kind, "StatefulSet") != 0 || strcmp(name, owner) != 0)
			continue;
		if (!m) {
			m = &v->members[v->n_members++];
			*m = (struct cluster_member){.name = strdup(p->name), .lag_bytes = -1};
		}
		set_state(m, p->ready && !p->deleting, state_of(p));
	}
}

static int view_now(struct statefulset *s, struct cluster_view **ret, struct err **err)
{
	int r = s->roles->ops->read(s->roles, ret, err);

	if (r < 0)
		return r;
	(*ret)->at_ns = now_ns();
	statefulset_add_pods(*ret, s->k.pods, s->k.n_pods, s->k.name);
	kube_manager_dress(&s->k, *ret);
	return 0;
}

static void show(struct kube_manager *m)
{
	struct cluster_view *v = NULL;

	if (!m->listener.view || view_now((struct statefulset *)m, &v, NULL) < 0)
		return;
	m->listener.view(v, m->listener.data);
	cluster_view_free(v);
}

static int statefulset_read(struct manager *m, struct cluster_view **ret, struct err **err)
{
	return view_now((struct statefulset *)m, ret, err);
}

static int statefulset_watch(struct manager *m, uint64_t interval_ms, const struct manager_listener *l,
	struct err **err)
{
	(void)interval_ms;
	return kube_manager_listen(&((struct statefulset *)m)->k, l, err);
}

static int statefulset_dcs(struct manager *m, char ***ret, struct err **err)
{
	struct statefulset *s = (struct statefulset *)m;

	return s->roles->ops->dcs_addresses(s->roles, ret, err);
}

static void statefulset_free(struct manager *m)
{
	struct statefulset *s = (struct statefulset *)m;

	if (s->roles)
		s->roles->ops->free(s->roles);
	kube_manager_done(&s->k);
	free(s);
}

static const struct manager_ops ops = {
	.read = statefulset_read,
	.watch = statefulset_watch,
	.dcs_addresses = statefulset_dcs,
	.free = statefulset_free,
};

static const char *owner_of(const struct manager_world *w)
{
	const char *name = NULL, *kind = w->pod ? pod_controller(w->pod, &name) : NULL;

	return kind && strcmp(kind, "StatefulSet") == 0 ? name : NULL;
}

static int detect(const struct manager_world *w, struct err **err)
{
	return owner_of(w) ? 0 : err_set(err, -ENOENT, "no StatefulSet owns the instances' pods");
}

/* "a=b,c=d" of spec.selector.matchLabels. */
static int pod_selector(const struct manager_world *w, const char *namespace, const char *name,
	char **ret, struct err **err)
{
	_cleanup_free_ char *path =
		kube_path("/apis/apps/v1/namespaces/%s/statefulsets/%s", namespace, name);
	_cleanup_json_ cJSON *set = NULL;
	const cJSON *labels, *item;
	char *text = strdup("");
	int r = kube_get(w->kube, path, &set, err);

	labels = r >= 0 ? kube_field(set, "spec.selector.matchLabels") : NULL;
	if (r >= 0 && (!cJSON_IsObject(labels) || !labels->child))
		r = err_set(err, -EPROTO, "StatefulSet %s selects by no labels", name);
	for (item = r >= 0 ? labels->child : NULL; item; item = item->next) {
		char *longer = NULL;

		if (!cJSON_IsString(item))
			continue;
		if (asprintf(&longer, "%s%s%s=%s", text, *text ? "," : "", item->string,
			item->valuestring) < 0)
			abort();
		free(text);
		text = longer;
	}
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	return 0;
}

static int open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	const char *namespace = kube_namespace(w->pod), *name = owner_of(w);
	_cleanup_free_ char *selector = NULL;
	struct statefulset *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		abort();
	s->k.base = (struct manager){&manager_statefulset, &ops};
	s->k.pods_changed = show;
	r = pod_selector(w, namespace, name, &selector, err);
	if (r >= 0)
		r = kube_manager_init(&s->k, w, namespace, name, selector, err);
	if (r >= 0) {
		s->k.kind = strdup("StatefulSet");
		r = manager_plain.open(w, &s->roles, err);
	}
	if (r < 0) {
		statefulset_free(&s->k.base);
		return err_wrap(err, r, "StatefulSet %s/%s", namespace, name);
	}
	*ret = &s->k.base;
	return 0;
}

const struct manager_driver manager_statefulset = {
	.name = "statefulset",
	.detect = detect,
	.open = open,
};
