#include "data.h"

#include <errno.h>

#include "manager/statefulset.h"

static char told[4096];

static void tell(enum event_kind kind, const char *pod, const char *value, const char *text, void *data)
{
	size_t n = strlen(told);

	(void)data;
	cr_assert(strstr(text, pod));
	snprintf(told + n, sizeof(told) - n, "%s%s=%s", n ? " " : "", event_kind_to_string(kind), value);
}

static const char *compare(const struct pod *old, const struct pod *new)
{
	told[0] = 0;
	pod_compare(old, new, tell, NULL);
	return told;
}

static struct pod pod(const char *text)
{
	_cleanup_json_ cJSON *json = NULL;
	struct pod p = {0};

	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	cr_assert_eq(pod_read(json, &p, NULL), 0);
	return p;
}

#define POD(uid, more, ready, restarts, ip)                                                           \
	"{\"metadata\": {\"name\": \"pg-0\", \"namespace\": \"shop\", \"uid\": \"" uid "\"" more "}, "  \
	"\"spec\": {\"nodeName\": \"node1\"}, \"status\": {\"podIP\": \"" ip "\", \"conditions\": ["    \
	"{\"type\": \"Ready\", \"status\": \"" ready "\", \"reason\": \"ContainersNotReady\"}], "       \
	"\"containerStatuses\": [{\"name\": \"postgres\", \"restartCount\": " restarts ", "            \
	"\"lastState\": {\"terminated\": {\"exitCode\": 137, \"reason\": \"OOMKilled\"}}}]}}"

Test(pod, what_it_says)
{
	struct pod p = pod(POD("u1", "", "False", "2", "10.0.0.7"));

	cr_assert_str_eq(p.name, "pg-0");
	cr_assert_str_eq(p.node, "node1");
	cr_assert_str_eq(p.address, "10.0.0.7");
	cr_assert_str_eq(p.addresses[0], "10.0.0.7");
	cr_assert(!p.ready);
	cr_assert_str_eq(p.not_ready, "ContainersNotReady");
	cr_assert_eq(p.restarts, 2);
	cr_assert_str_eq(p.restarted, "container postgres had ended: OOMKilled, exit code 137");
	pod_done(&p);
}

Test(pod, through_its_life)
{
	struct pod ready = pod(POD("u1", "", "True", "0", "10.0.0.7"));
	struct pod not_ready = pod(POD("u1", "", "False", "0", "10.0.0.7"));
	struct pod restarted = pod(POD("u1", "", "False", "1", "10.0.0.7"));
	struct pod deleting = pod(POD("u1", ", \"deletionTimestamp\": \"2026-08-21T10:00:40Z\"", "True", "0",
		"10.0.0.7"));
	struct pod another = pod(POD("u2", "", "False", "0", "10.0.0.8"));

	cr_assert_str_eq(compare(&ready, &ready), "");
	cr_assert_str_eq(compare(&ready, &not_ready), "ready=fail");
	cr_assert_str_eq(compare(&not_ready, &ready), "ready=ok");
	cr_assert_str_eq(compare(&not_ready, &restarted), "pod=restarted");
	cr_assert_str_eq(compare(&ready, &deleting), "pod=deleting");
	cr_assert_str_eq(compare(&deleting, NULL), "pod=gone");
	cr_assert_str_eq(compare(NULL, &another), "pod=new");
	cr_assert_str_eq(compare(&ready, &another), "pod=new ready=fail pod=moved");
	cr_assert_str_eq(compare(NULL, NULL), "");
	pod_done(&ready);
	pod_done(&not_ready);
	pod_done(&restarted);
	pod_done(&deleting);
	pod_done(&another);
}

Test(pod, hostile)
{
	_cleanup_json_ cJSON *hostile = data_load("hostile.json");
	const cJSON *item;

	cJSON_ArrayForEach(item, json_get(hostile, "nameless")) {
		struct pod p = {0};

		cr_assert_eq(pod_read(item, &p, NULL), -EPROTO);
	}
	cJSON_ArrayForEach(item, json_get(hostile, "pods")) {
		struct pod p = {0};

		cr_assert_eq(pod_read(item, &p, NULL), 0);
		cr_assert(!p.ready);
		cr_assert_null(p.address);
		cr_assert_leq(p.restarts, 2);
		cr_assert(!p.not_ready || strlen(p.not_ready) <= 300);
		cr_assert_null(pod_controller(item, NULL));
		compare(NULL, &p);
		compare(&p, &p);
		pod_done(&p);
	}
	cr_assert_null(pod_controller(NULL, NULL));
}

Test(pod, whose_instance)
{
	struct instance_info a = {.name = "shop/pg-0", .namespace = "shop", .pod = "pg-0"};
	struct instance_info b = {.name = "lab/pg-0"};
	struct instance_info *const all[] = {&b, &a};

	cr_assert_str_eq(pod_instance("shop", "pg-0", all, 2), "shop/pg-0");
	cr_assert_null(pod_instance("other", "pg-0", all, 2));
	cr_assert_null(pod_instance("shop", "pg-1", all, 2));
}

Test(statefulset, members_are_its_pods)
{
	_cleanup_json_ cJSON *data = data_load("patroni-failover.json");
	size_t n;
	struct pod *pods = data_pods(data_step(data, "promoted"), &n);
	struct cluster_view *v = calloc(1, sizeof(*v));

	v->members = calloc(2, sizeof(*v->members));
	v->members[v->n_members++] = (struct cluster_member){.name = strdup("orders-1"), .running = true,
		.role = ROLE_PRIMARY, .state = strdup("running")};
	v->members[v->n_members++] = (struct cluster_member){.name = strdup("orders-9"), .running = true,
		.state = strdup("running")};
	statefulset_add_pods(v, pods, n, "orders");
	cr_assert_eq(v->n_members, 4);
	cr_assert_eq(data_member(v, "orders-1")->role, ROLE_PRIMARY);
	cr_assert(data_member(v, "orders-1")->running);
	cr_assert_str_eq(data_member(v, "orders-0")->state, "not ready");
	cr_assert(!data_member(v, "orders-0")->running);
	cr_assert_str_eq(data_member(v, "orders-9")->state, "no pod");
	cr_assert(!data_member(v, "orders-9")->running);
	statefulset_add_pods(v, pods, n, "another");
	cr_assert_eq(v->n_members, 4, "pods of others are no members");
	cluster_view_free(v);
	data_pods_free(pods, n);
}
