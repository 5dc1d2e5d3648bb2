#include "data.h"

#include "manager/patroni_kubernetes.h"

static cJSON *data;

static void set_up(void)
{
	data = data_load("patroni-failover.json");
}

static void tear_down(void)
{
	cJSON_Delete(data);
}

static struct cluster_view *view_of(const char *name, bool unlocked)
{
	const cJSON *step = data_step(data, name);
	struct patroni_store s = {
		json_get(step, "leader"), json_get(step, "config"), json_get(step, "sync"), unlocked};
	size_t n;
	struct pod *pods = data_pods(step, &n);
	struct cluster_view *v = patroni_store_view(&s, pods, n, 9);

	data_pods_free(pods, n);
	return v;
}

static struct cluster_view *view(const char *name)
{
	return view_of(name, false);
}

TestSuite(patroni_kubernetes, .init = set_up, .fini = tear_down);

Test(patroni_kubernetes, healthy)
{
	struct cluster_view *v = view("healthy");

	cr_assert_str_eq(v->leader, "orders-0");
	cr_assert(v->synchronous);
	cr_assert(!v->paused);
	cr_assert_eq(v->n_members, 3);
	cr_assert_eq(data_member(v, "orders-0")->role, ROLE_PRIMARY);
	cr_assert_str_eq(data_member(v, "orders-0")->state, "running");
	cr_assert_eq(data_member(v, "orders-0")->lag_bytes, -1);
	cr_assert_str_eq(data_member(v, "orders-1")->state, "streaming");
	cr_assert(data_member(v, "orders-1")->running);
	cr_assert(data_member(v, "orders-1")->sync_standby);
	cr_assert(!data_member(v, "orders-2")->sync_standby);
	cr_assert_eq(data_member(v, "orders-1")->lag_bytes, 0);
	cr_assert_eq(data_member(v, "orders-2")->lag_bytes, 2256);
	cr_assert_eq(data_member(v, "orders-2")->timeline, 4);
	cluster_view_free(v);
}

Test(patroni_kubernetes, lock_that_has_run_out)
{
	struct cluster_view *v = view_of("healthy", true);

	cr_assert_null(v->leader);
	cr_assert_eq(data_member(v, "orders-0")->role, ROLE_REPLICA);
	cluster_view_free(v);
}

Test(patroni_kubernetes, through_a_failover)
{
	struct cluster_view *v = view("given back");

	cr_assert_null(v->leader);
	cr_assert_str_eq(data_member(v, "orders-0")->state, "stopping");
	cr_assert(!data_member(v, "orders-0")->running);
	cluster_view_free(v);

	v = view("promoted");
	cr_assert_str_eq(v->leader, "orders-1");
	cr_assert_eq(data_member(v, "orders-1")->timeline, 5);
	cr_assert_str_eq(data_member(v, "orders-0")->state, "creating replica");
	cr_assert(!data_member(v, "orders-0")->running);
	cr_assert(data_member(v, "orders-2")->sync_standby);
	cluster_view_free(v);

	v = view("paused");
	cr_assert(v->paused);
	cr_assert(v->synchronous, "by quorum");
	cluster_view_free(v);
}

Test(patroni_kubernetes, hostile)
{
	struct cluster_view *v = view("hostile");

	cr_assert_str_eq(v->leader, "nobody-we-know");
	cr_assert(!v->paused, "what cannot be read is not said");
	cr_assert(!v->synchronous);
	cr_assert_eq(v->n_members, 5);
	for (size_t i = 0; i < v->n_members; i++) {
		cr_assert_eq(v->members[i].timeline, 0, "%zu", i);
		cr_assert_eq(v->members[i].lag_bytes, -1, "%zu", i);
		cr_assert_eq(v->members[i].role, ROLE_REPLICA);
		cr_assert(!v->members[i].sync_standby);
		cr_assert_gt(strlen(v->members[i].state), 0);
	}
	cluster_view_free(v);
}

Test(patroni_kubernetes, no_store_yet)
{
	struct patroni_store s = {0};
	struct cluster_view *v = patroni_store_view(&s, NULL, 0, 1);

	cr_assert_null(v->leader);
	cr_assert_eq(v->n_members, 0);
	cluster_view_free(v);
}
