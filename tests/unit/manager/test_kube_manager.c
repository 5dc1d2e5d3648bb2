/* CloudNativePG and an operator's Patroni as whole managers, against an API server by script. */
#include "api.h"

TestSuite(kube_manager, .init = set_up, .fini = tear_down, .timeout = 110);

static struct instance_info main_1 = {.name = "shop/main-1", .namespace = "shop", .pod = "main-1",
	.member = "main-1"};
static struct instance_info main_3 = {.name = "shop/main-3", .namespace = "shop", .pod = "main-3",
	.member = "main-3"};
static struct instance_info *const cnpg_instances[] = {&main_1, &main_3};

static struct manager *open_cnpg(void)
{
	data = data_load("cnpg-failover.json");
	return open_manager("cnpg", cnpg_instances, 2);
}

Test(kube_manager, cnpg_through_a_failover)
{
	struct cluster_view *v = NULL;
	struct manager *m = open_cnpg();

	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->leader, "main-1");
	cr_assert_str_eq(v->leader_since, "2026-08-21T09:00:12.345678Z");
	cr_assert_str_eq(data_member(v, "main-1")->instance, "shop/main-1");
	cr_assert_str_eq(data_member(v, "main-1")->address, "10.244.1.5");
	cr_assert_str_eq(data_member(v, "main-1")->node, "node1");
	cluster_view_free(v);
	cr_assert_str_eq(m->ops->services(m).write, "main-rw");
	cr_assert_str_eq(m->ops->services(m).read, "main-ro");
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	step = 1;
	until_told("ready shop/main-1 fail\n");
	step = 2;
	until_told("chosen - pending\n", "phase - fail\n", "kubernetes - FailingOver\n",
		"kubernetes shop/main-1 Unhealthy\n");
	cr_assert(!strstr(told, "Old"), "of before: %s", told);
	until_said("a new one is to be chosen, asked for at 2026-08-21T10:00:42.000001Z\n");
	step = 3;
	until_told("chosen shop/main-3 main-3\n");
	until_said("operator: main-3 is to be primary, asked for at 2026-08-21T10:00:47.000001Z\n");
	step = 4;
	until_told("pod shop/main-1 gone\n");
	until_leader("main-3");
	cr_assert_str_eq(seen->leader_since, "2026-08-21T10:00:51.000001Z");
	step = 5;
	until_told("pod shop/main-1 new\n", "phase - ok\n", "ready shop/main-1 ok\n");
	until_leader("main-3");
	cr_assert_str_eq(data_member(seen, "main-1")->address, "10.244.2.44", "another address than before");
	cr_assert_str_eq(data_member(seen, "main-1")->node, "node2");
	cr_assert_null(strstr(strstr(told, "FailingOver") + 1, "FailingOver"), "told once: %s", told);
	m->ops->free(m);
}

/* Who holds the lease is told as it changes, and when it is gone; what is no name is nobody. */
Test(kube_manager, cnpg_lease)
{
	struct manager *m;

	lease_is_held_by("main-1");
	m = open_cnpg();
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	lease_is_held_by("main-3");
	until_told("kubernetes shop/main-3 Lease\n");
	until_said("lease: main-3 holds the primary's lease\n");
	cr_assert(!strstr(texts, "main-1 holds"), "of before: %s", texts);
	lease_is_held_by("");
	until_said("lease: nobody holds it\n");
	lease_is_held_by("main-1");
	until_said("lease: main-1 holds the primary's lease\n");
	lease_is_held_by(NULL);
	until_said("lease: it is gone, nobody holds it\n");
	told[0] = texts[0] = '\0';
	lease_is_held_by("main-1");
	until_said("lease: main-1 holds the primary's lease\n");
	lease_is_held_by("{}");
	until_said("lease: nobody holds it\n");
	cr_assert_null(strstr(told, "chosen"), "a lease chooses nobody: %s", told);
	m->ops->free(m);
}

/* The text at the beginning, and as the quorum and the pods change. */
Test(kube_manager, cnpg_quorum)
{
	struct manager *m = open_cnpg();
	struct cluster_view *v = NULL;

	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_null(v->refuse);
	cr_assert_null(v->unsettled);
	cluster_view_free(v);
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	cr_assert_str_eq(texts, "quorum: ANY 1 of main-2, main-3, told by main-1; were main-1 lost now, a failover "
		"would be allowed: R 2 (ready of them) + W 1 is above N 2\n");
	cr_assert_str_eq(told, "kubernetes - FailoverQuorum\n");
	step = 3;
	until_said("quorum: ANY 1 of nobody; a failover would be refused until the primary writes who is "
		"synchronous\n");
	step = 4;
	until_said("quorum: ANY 1 of main-2, told by main-3; were main-3 lost now, a failover would be allowed: "
		"R 1 (ready of them) + W 1 is above N 1\n");
	m->ops->free(m);
}

/* A FailoverQuorum that would refuse a failover refuses a drill; one that was reset is waited for. */
Test(kube_manager, cnpg_quorum_guards)
{
	struct cluster_view *v = NULL;
	struct manager *m;
	cJSON *first;

	data = data_load("cnpg-failover.json");
	first = cJSON_GetArrayItem(json_get(data, "steps"), 0);
	cJSON_DeleteItemFromObjectCaseSensitive(first, "quorum");
	m = open_manager("cnpg", cnpg_instances, 2);
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->unsettled, "quorum: there is no FailoverQuorum; a failover would be refused until the "
		"primary writes who is synchronous");
	cr_assert_null(v->refuse);
	cluster_view_free(v);
	m->ops->free(m);

	cJSON_AddItemToObject(first, "quorum", data_parse("{\"metadata\": {\"name\": \"main\"}, \"status\": {"
		"\"method\": \"FIRST\", \"standbyNumber\": 1, \"primary\": \"main-1\","
		"\"standbyNames\": [\"main-2\", \"main-8\", \"main-9\"]}}"));
	m = open_manager("cnpg", cnpg_instances, 2);
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->refuse, "quorum: FIRST 1 of main-2, main-8, main-9, told by main-1; were main-1 lost "
		"now, a failover would be refused by the quorum: R 1 (ready of them) + W 1 is not above N 3");
	cr_assert_null(v->unsettled);
	cluster_view_free(v);
	m->ops->free(m);
}

/* Before the quorum and the lease there was neither: nothing is made of that. */
Test(kube_manager, cnpg_of_before)
{
	struct cluster_view *v = NULL;
	struct manager *m;

	old_operator = true;
	m = open_cnpg();
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_null(v->refuse);
	cr_assert_null(v->unsettled);
	cluster_view_free(v);
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	step = 2;
	until_told("chosen - pending\n");
	cr_assert_null(strstr(told, "FailoverQuorum"), "%s", told);
	m->ops->free(m);
}

/* What an operator's Patroni tells through the store, where no member answers. */
Test(kube_manager, patroni_by_its_store)
{
	struct instance_info a = {.name = "shop/orders-0", .namespace = "shop", .pod = "orders-0",
		.member = "orders-0"};
	struct instance_info b = {.name = "shop/orders-1", .namespace = "shop", .pod = "orders-1",
		.member = "orders-1"};
	struct instance_info *const instances[] = {&a, &b};
	struct cluster_view *v = NULL;
	struct manager *m;

	refuse_events = true;	/* without that right all else is told */
	data = data_load("patroni-failover.json");
	m = open_manager("patroni-kubernetes", instances, 2);
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->leader, "orders-0");
	cr_assert_null(v->leader_since);
	cr_assert(v->synchronous);
	cr_assert_str_eq(data_member(v, "orders-1")->state, "streaming");
	cluster_view_free(v);
	cr_assert_eq(m->ops->watch(m, 200, &listener, NULL), 0);
	step = 1;
	until_told("chosen - none\n", "ready shop/orders-0 fail\n");
	until_leader(NULL);
	step = 2;
	until_told("chosen shop/orders-1 orders-1\n", "pod shop/orders-0 new\n");
	until_leader("orders-1");
	cr_assert_str_eq(data_member(seen, "orders-0")->address, "10.244.1.77");
	step = 3;
	until_told("pod shop/orders-0 gone\n");
	while (!seen->paused)
		cr_assert_geq(sd_event_run(event, 50000), 0);
	m->ops->free(m);
}
