#include "manager/manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kube/kube.h"
#include "manager/cnpg.h"
#include "manager/crunchy.h"
#include "manager/patroni.h"
#include "manager/patroni_kubernetes.h"
#include "manager/plain.h"
#include "manager/stackgres.h"
#include "manager/statefulset.h"
#include "manager/zalando.h"

/* Operators before what they are built of: their pods bear Patroni's marks too. */
static const struct manager_driver *const drivers[] = {
	&manager_cnpg,
	&manager_crunchy,
	&manager_zalando,
	&manager_stackgres,
	&manager_patroni_kubernetes,
	&manager_patroni,
	&manager_statefulset,
	&manager_plain,	/* takes any cluster, so it comes last */
	NULL,
};

const struct manager_driver *const *manager_drivers(void)
{
	return drivers;
}

void cluster_view_free(struct cluster_view *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < v->n_members; i++) {
		free(v->members[i].name);
		free(v->members[i].instance);
		free(v->members[i].state);
		free(v->members[i].address);
		free(v->members[i].node);
	}
	free(v->members);
	free(v->source);
	free(v->leader);
	free(v->leader_since);
	free(v->refuse);
	free(v->unsettled);
	free(v);
}

static char *copy(const char *s)
{
	char *c = s ? strdup(s) : NULL;

	if (s && !c)
		abort();
	return c;
}

struct cluster_view *cluster_view_copy(const struct cluster_view *v)
{
	struct cluster_view *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	*c = *v;
	c->source = copy(v->source);
	c->leader = copy(v->leader);
	c->leader_since = copy(v->leader_since);
	c->refuse = copy(v->refuse);
	c->unsettled = copy(v->unsettled);
	c->members = calloc(v->n_members + 1, sizeof(*c->members));
	if (!c->members)
		abort();
	for (size_t i = 0; i < v->n_members; i++) {
		const struct cluster_member *m = &v->members[i];

		c->members[i] = *m;
		c->members[i].name = copy(m->name);
		c->members[i].instance = copy(m->instance);
		c->members[i].state = copy(m->state);
		c->members[i].address = copy(m->address);
		c->members[i].node = copy(m->node);
	}
	return c;
}

char *manager_names(void)
{
	char *names = copy("auto");

	for (const struct manager_driver *const *d = drivers; *d; d++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s%s%s", names, d[1] ? ", " : " or ", (*d)->name) < 0)
			abort();
		free(names);
		names = longer;
	}
	return names;
}

/* All pods of a cluster bear the same marks, so one of them tells whose it is. */
static int find_pod(const struct manager_world *w, cJSON **ret, struct err **err)
{
	int r = err_set(err, -ENOENT, "%s", w->kube ? "none of the instances runs in a pod" :
						       "no Kubernetes is known here");

	for (size_t i = 0; w->kube && r < 0 && i < w->n; i++) {
		const struct instance_info *n = w->instances[i];
		_cleanup_free_ char *path = NULL;

		if (!n->namespace || !n->pod)
			continue;
		path = kube_path("/api/v1/namespaces/%s/pods/%s", n->namespace, n->pod);
		r = kube_get(w->kube, path, ret, err);
	}
	return r;
}

int manager_open(const char *name, const struct manager_world *given, struct manager **ret,
	struct err **err)
{
	bool any = !name || strcmp(name, "auto") == 0;
	_cleanup_free_ char *names = NULL;
	_cleanup_err_ struct err *no_pod = NULL;
	_cleanup_json_ cJSON *pod = NULL;
	struct manager_world w = *given;

	if (find_pod(&w, &pod, &no_pod) >= 0)
		w.pod = pod;
	for (const struct manager_driver *const *d = drivers; *d; d++) {
		if (any ? (*d)->detect(&w, NULL) < 0 : strcmp((*d)->name, name) != 0)
			continue;
		if (!any) {
			int r = (*d)->detect(&w, err);

			if (r < 0)
				return err_wrap(err, r, "manager %s%s%s%s", name,
					w.pod || !w.kube ? "" : " (", w.pod || !w.kube ? "" : err_text(no_pod),
					w.pod || !w.kube ? "" : ")");
		}
		return (*d)->open(&w, ret, err);
	}
	names = manager_names();
	return err_set(err, -EINVAL, "manager \"%s\": expected %s", name, names);
}
