#include "run/cluster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct instance_info **instances_of(const struct targets *t)
{
	struct instance_info **list = calloc(t->count + 1, sizeof(*list));

	if (!list)
		abort();
	for (size_t i = 0; i < t->count; i++)
		list[i] = t->items[i].info;
	return list;
}

int cluster_open(struct session *s, const char *name, const char *manager, struct cluster *ret,
	struct err **err)
{
	struct cluster c = {.session = s};
	_cleanup_free_ struct instance_info **instances = NULL;
	int r = session_cluster(s, name, &c.targets, err);

	if (r < 0)
		return r;
	c.name = strdup(c.targets.items[0].info->cluster);
	instances = instances_of(&c.targets);
	r = manager_open(manager,
		&(struct manager_world){
			.http = s->http,
			.event = s->event,
			.instances = instances,
			.n = c.targets.count,
			.kube = s->kube,
			.cluster = s->kube ? c.name : NULL,
		},
		&c.manager, err);
	if (r >= 0)
		r = c.manager->ops->read(c.manager, &c.view, err);
	if (r < 0) {
		cluster_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void cluster_done(struct cluster *c)
{
	if (c->manager)
		c->manager->ops->free(c->manager);
	cluster_view_free(c->view);
	targets_done(&c->targets);
	free(c->name);
	*c = (struct cluster){0};
}

int cluster_refresh(struct cluster *c, struct err **err)
{
	struct targets now = {0};
	int r = session_targets(c->session, &now, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < c->targets.count; i++) {
		struct target *old = &c->targets.items[i];

		for (size_t k = 0; k < now.count; k++) {
			struct instance_info *found = now.items[k].info;

			if (!found || strcmp(found->name, old->info->name))
				continue;
			instance_info_free(old->info);
			*old = now.items[k];
			now.items[k].info = NULL;
			break;
		}
	}
	targets_done(&now);
	return 0;
}

void cluster_set_view(struct cluster *c, struct cluster_view *view)
{
	cluster_view_free(c->view);
	c->view = view;
}

const struct cluster_member *cluster_member_of(const struct cluster *c, const char *instance)
{
	for (size_t i = 0; c->view && i < c->view->n_members; i++)
		if (c->view->members[i].instance &&
			strcmp(c->view->members[i].instance, instance) == 0)
			return &c->view->members[i];
	return NULL;
}

const struct target *cluster_primary(const struct cluster *c)
{
	const struct target *found = NULL;

	bool told = c->view && c->view->leader && !c->view->guessed;

	for (size_t i = 0; told && i < c->view->n_members; i++) {
		const struct cluster_member *m = &c->view->members[i];

		if (m->instance && strcmp(m->name, c->view->leader) == 0 &&
			targets_find(&c->targets, m->instance, &found, NULL) == 0)
			return found;
	}
	for (size_t i = 0; i < c->targets.count; i++) {
		if (c->targets.items[i].info->role != ROLE_PRIMARY)
			continue;
		if (found)
			return NULL;
		found = &c->targets.items[i];
	}
	return found;
}
