/* The operators that are built on Patroni, opened and led through a failover by their own objects. */
#include "api.h"

TestSuite(kube_operators, .init = set_up, .fini = tear_down, .timeout = 110);

static void load(const char *operator)
{
	cJSON *all = data_load("operators-failover.json");

	data = cJSON_DetachItemFromObjectCaseSensitive(all, operator);
	cr_assert_not_null(data, "%s", operator);
	cJSON_Delete(all);
}

static int step_named(const char *name)
{
	const cJSON *list = json_get(data, "steps"), *item;
	int i = 0;

	cJSON_ArrayForEach(item, list) {
		if (strcmp(json_get(item, "step")->valuestring, name) == 0)
			return i;
		i++;
	}
	cr_assert_fail("no step %s", name);
	return -1;
}

/* The first of the members leads, and the second after it. */
struct expected {
	const char *operator, *members[3], *write, *read, *sync;
};

static void check_whole(struct manager *m, const struct expected *e)
{
	struct cluster_view *v = NULL;
	const struct cluster_member *third;

	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->source, "Kubernetes");
	cr_assert(v->leader && strcmp(v->leader, e->members[0]) == 0, "%s", v->leader);
	cr_assert_eq(v->n_members, 3, "%zu: other pods of the cluster's and other clusters' are none", v->n_members);
	cr_assert_null(v->refuse);
	cr_assert_null(v->unsettled);
	cr_assert(!v->paused);
	cr_assert_eq(v->synchronous, e->sync != NULL);
	for (size_t i = 0; i < 3; i++) {
		const struct cluster_member *p = data_member(v, e->members[i]);

		cr_assert_eq(p->role, i ? ROLE_REPLICA : ROLE_PRIMARY);
		cr_assert(p->running);
		cr_assert_eq(p->timeline, 4);
		cr_assert_eq(p->sync_standby, i && e->sync && strcmp(e->sync, p->name) == 0);
		cr_assert_str_eq(p->state, i ? "streaming" : "running");
	}
	third = data_member(v, e->members[2]);
	cr_assert_eq(third->lag_bytes, 2256);
	cr_assert_str_eq(third->node, "node3");
	cluster_view_free(v);
	cr_assert_str_eq(m->ops->services(m).write, e->write);
	cr_assert_str_eq(m->ops->services(m).read, e->read);
}

/* The manager, through a failover, listened to. */
static struct manager *led_over(const struct expected *e)
{
	static char names[2][128], lines[4][256];
	static struct instance_info infos[2];
	static struct instance_info *const instances[] = {&infos[0], &infos[1]};
	struct manager *m;

	load(e->operator);
	for (size_t i = 0; i < 2; i++) {
		snprintf(names[i], sizeof(names[i]), "shop/%s", e->members[i]);
		infos[i] = (struct instance_info){.name = names[i], .namespace = (char *)"shop",
			.pod = (char *)e->members[i], .member = (char *)e->members[i]};
	}
	m = open_manager(e->operator, instances, 2);
	check_whole(m, e);
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	step = step_named("given back");
	snprintf(lines[0], sizeof(lines[0]), "ready %s fail\n", names[0]);
	until_told("chosen - none\n", lines[0]);
	until_leader(NULL);
	step = step_named("promoted");
	snprintf(lines[1], sizeof(lines[1]), "chosen %s %s\n", names[1], e->members[1]);
	until_told(lines[1]);
	until_leader(e->members[1]);
	LOOP_UNTIL(data_member(seen, e->members[1])->timeline == 5);
	LOOP_UNTIL(strcmp(data_member(seen, e->members[0])->state, "stopped") == 0);
	cr_assert(!data_member(seen, e->members[0])->running);
	cr_assert_str_eq(data_member(seen, e->members[1])->instance, names[1]);
	return m;
}

static void until_unsettled(const char *word)
{
	LOOP_UNTIL(seen && (word ? seen->unsettled && strcmp(seen->unsettled, word) == 0 : !seen->unsettled));
}

Test(kube_operators, crunchy)
{
	const struct expected e = {.operator = "crunchy",
		.members = {"hippo-instance1-4k2f-0", "hippo-instance1-9xzq-0", "hippo-instance1-tn7c-0"},
		.write = "hippo-ha", .read = "hippo-replicas", .sync = "hippo-instance1-9xzq-0"};
	struct manager *m = led_over(&e);

	step = step_named("paused");
	until_refusal("spec.paused");
	step = step_named("shut down");
	until_refusal("spec.shutdown");
	step = step_named("standby");
	until_refusal("spec.standby");
	step = step_named("whole");
	until_refusal(NULL);
	m->ops->free(m);
}

Test(kube_operators, stackgres)
{
	const struct expected e = {.operator = "stackgres", .members = {"db-0", "db-1", "db-2"}, .write = "db",
		.read = "db-replicas"};
	struct manager *m = led_over(&e);

	step = step_named("paused");
	until_refusal("reconciliation-pause");
	step = step_named("replica");
	until_refusal("spec.replicateFrom");
	step = step_named("whole");
	until_refusal(NULL);
	m->ops->free(m);
}

Test(kube_operators, zalando)
{
	const struct expected e = {.operator = "zalando", .members = {"acid-shop-0", "acid-shop-1", "acid-shop-2"},
		.write = "acid-shop", .read = "acid-shop-repl", .sync = "acid-shop-1"};
	struct manager *m = led_over(&e);

	step = step_named("standby");
	until_refusal("spec.standby");
	step = step_named("updating");
	until_refusal(NULL);
	until_unsettled("Updating");
	step = step_named("whole");
	until_unsettled(NULL);
	m->ops->free(m);
}
