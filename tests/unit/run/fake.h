/* A cluster of a test's own: instances, and a manager that says what the test wants. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run/run.h"

struct fake_manager {
	struct manager base;
	char *const *dcs;
};

static int fake_dcs(struct manager *m, char ***ret, struct err **err)
{
	(void)err;
	*ret = strv_copy(((struct fake_manager *)m)->dcs);
	return 0;
}

static void fake_free(struct manager *m)
{
	(void)m;
}

static const struct manager_driver fake_driver = {.name = "fake"};
static const struct manager_ops fake_ops = {.dcs_addresses = fake_dcs, .free = fake_free};
static struct fake_manager fake_manager = {.base = {&fake_driver, &fake_ops}};

static inline struct instance_info *fake_instance(const char *member, enum role role, const char *address,
	const char *address2)
{
	struct instance_info *i = calloc(1, sizeof(*i));

	cr_assert_gt(asprintf(&i->name, "lab/%s", member), 0);
	i->cluster = strdup("lab");
	i->member = strdup(member);
	i->role = role;
	i->pid = 100;
	i->port = 5432;
	if (address)
		strv_push(&i->addresses, strdup(address));
	if (address2)
		strv_push(&i->addresses, strdup(address2));
	return i;
}

/* pg1 is the primary, pg2 and pg3 are replicas; nobody is asked who leads. */
static inline struct cluster fake_cluster(void)
{
	struct cluster c = {.name = strdup("lab"), .manager = &fake_manager.base};

	c.targets.items = calloc(3, sizeof(*c.targets.items));
	c.targets.items[0].info = fake_instance("pg1", ROLE_PRIMARY, "10.0.0.1", "fd00::1");
	c.targets.items[1].info = fake_instance("pg2", ROLE_REPLICA, "10.0.0.2", NULL);
	c.targets.items[2].info = fake_instance("pg3", ROLE_REPLICA, "10.0.0.3", NULL);
	c.targets.count = 3;
	return c;
}

/* The manager names one that leads; NULL: nobody. Members are named as instances, without "lab/". */
static inline void fake_view(struct cluster *c, const char *leader)
{
	struct cluster_view *v = calloc(1, sizeof(*v));

	v->at_ns = 1;
	v->leader = leader ? strdup(leader) : NULL;
	v->members = calloc(c->targets.count + 1, sizeof(*v->members));
	for (size_t i = 0; i < c->targets.count; i++) {
		const struct instance_info *n = c->targets.items[i].info;

		v->members[v->n_members++] = (struct cluster_member){
			.name = strdup(n->member),
			.instance = strdup(n->name),
			.running = true,
		};
	}
	cluster_set_view(c, v);
}
