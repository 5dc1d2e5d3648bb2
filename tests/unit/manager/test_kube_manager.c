/* Whole managers against an API server by script: its objects are those of a step of a failover. */
#include "../kube/server.h"
#include "data.h"

#include <stdatomic.h>

#include "manager/kube_manager.h"
#include "run/ways.h"

#define LIMIT_NS (20 * NS_PER_S)

static cJSON *data;
static _Atomic(int) step;
static _Atomic(bool) refuse_events;
static char told[8192];
static struct cluster_view *seen;

static const cJSON *step_now(void)
{
	return cJSON_GetArrayItem(json_get(data, "steps"), step);
}

static void add_version(cJSON *items, const cJSON *object, int version_number)
{
	cJSON *copy = cJSON_IsObject(object) ? cJSON_Duplicate(object, true) : NULL;
	char version[16];

	if (!copy)
		return;
	snprintf(version, sizeof(version), "%d", version_number);
	cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItem(copy, "metadata"), "resourceVersion");
	cJSON_AddStringToObject(cJSON_GetObjectItem(copy, "metadata"), "resourceVersion", version);
	cJSON_AddItemToArray(items, copy);
}

/* Each step is a version of its own. */
static void add(cJSON *items, const cJSON *object)
{
	add_version(items, object, step + 1);
}

static void add_event(cJSON *items, const char *name, const char *kind, const char *about, const char *reason)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_gt(asprintf(&text, "{\"metadata\": {\"name\": \"%s\", \"namespace\": \"shop\", \"uid\": \"%s\"},"
		"\"reason\": \"%s\", \"message\": \"words\", \"involvedObject\": {\"kind\": \"%s\", \"name\": \"%s\"}}",
		name, name, reason, kind, about), 0);
	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0);
	add_version(items, json, 1);
}

static void add_items(cJSON *items, const char *path)
{
	const cJSON *now = step_now(), *item;

	if (strstr(path, "/pods"))
		cJSON_ArrayForEach(item, json_get(now, "pods"))
			add(items, item);
	else if (strstr(path, "/clusters?"))
		add(items, json_get(now, "cluster"));
	else if (strstr(path, "/failoverquorums?"))
		add(items, json_get(now, "quorum"));
	else if (strstr(path, "/endpoints?")) {
		add(items, json_get(now, "leader"));
		add(items, json_get(now, "config"));
		add(items, json_get(now, "sync"));
	} else if (strstr(path, "/events")) {
		add_event(items, "old", "Cluster", "main", "Old");
		if (step >= 2)
			add_event(items, "e1", "Cluster", "main", "FailingOver");
		if (step >= 2)
			add_event(items, "e2", "Pod", "main-1", "Unhealthy");
		if (step >= 2)
			add_event(items, "e3", "Pod", "of-somebody-else", "Unhealthy");
	}
}

/* Watches are told that their version is too old, so what is known is listed anew. */
static void serve(int fd, unsigned nth, const char *request)
{
	_cleanup_json_ cJSON *list = json_object();
	cJSON *metadata = json_object(), *items = json_array();
	_cleanup_free_ char *text = NULL, *path = strndup(request, strcspn(request, "\r"));
	char version[16];

	(void)nth;
	if (strstr(path, "watch=")) {
		usleep(20000);
		answer(fd, "200 OK", "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
				     "\"reason\":\"Expired\",\"message\":\"too old\"}}\n");
		cJSON_Delete(metadata);
		cJSON_Delete(items);
		return;
	}
	if (refuse_events && strstr(path, "/events")) {
		answer(fd, "403 Forbidden", "{\"kind\":\"Status\",\"code\":403,\"message\":\"no\"}");
		cJSON_Delete(metadata);
		cJSON_Delete(items);
		return;
	}
	snprintf(version, sizeof(version), "%d", step + 1);
	json_add_string(metadata, "resourceVersion", version);
	add_items(items, path);
	json_add_item(list, "metadata", metadata);
	json_add_item(list, "items", items);
	text = json_print(list);
	answer(fd, "200 OK", text);
}

static void set_up(void)
{
	server_set_up();
	server_serve(serve);
}

static void tear_down(void)
{
	cluster_view_free(seen);
	cJSON_Delete(data);
	server_tear_down();
}

static void on_view(const struct cluster_view *v, void *arg)
{
	(void)arg;
	cluster_view_free(seen);
	seen = cluster_view_copy(v);
}

static void on_event(const struct manager_event *e, void *arg)
{
	size_t n = strlen(told);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s %s %s\n", event_kind_to_string(e->kind),
		e->instance ? e->instance : "-", e->value ? e->value : "-");
}

/* Goes on until all of these lines were told. */
static void until_told(const char *const *lines)
{
	uint64_t end = now_ns() + LIMIT_NS;
	bool all = false;

	while (!all && now_ns() < end) {
		cr_assert_geq(sd_event_run(event, 50000), 0);
		all = true;
		for (size_t i = 0; lines[i]; i++)
			all = all && strstr(told, lines[i]);
	}
	for (size_t i = 0; lines[i]; i++)
		cr_assert(strstr(told, lines[i]), "\"%s\" is not in:\n%s", lines[i], told);
}

static void until_leader(const char *name)
{
	uint64_t end = now_ns() + LIMIT_NS;

	while (now_ns() < end && !(seen && (name ? seen->leader && strcmp(seen->leader, name) == 0 : !seen->leader)))
		cr_assert_geq(sd_event_run(event, 50000), 0);
	cr_assert(seen && (name ? seen->leader && strcmp(seen->leader, name) == 0 : !seen->leader), "%s", told);
}

static struct manager *open_manager(const char *driver, struct instance_info *const *instances, size_t n)
{
	struct manager_world w = {.http = client, .event = event, .instances = instances, .n = n, .kube = kube,
		.cluster = "shop/main", .pod = cJSON_GetArrayItem(json_get(step_now(), "pods"), 0)};
	struct manager *m = NULL;
	struct err *err = NULL;

	for (const struct manager_driver *const *d = manager_drivers(); *d; d++)
		if (strcmp((*d)->name, driver) == 0)
			cr_assert_eq((*d)->open(&w, &m, &err), 0, "%s", err_text(err));
	cr_assert_not_null(m);
	return m;
}

TestSuite(kube_manager, .init = set_up, .fini = tear_down, .timeout = 110);

Test(kube_manager, cnpg_through_a_failover)
{
	struct instance_info a = {.name = "shop/main-1", .namespace = "shop", .pod = "main-1", .member = "main-1"};
	struct instance_info c = {.name = "shop/main-3", .namespace = "shop", .pod = "main-3", .member = "main-3"};
	struct instance_info *const instances[] = {&a, &c};
	const struct manager_listener l = {on_view, on_event, NULL};
	struct cluster_view *v = NULL;
	struct manager *m;

	data = data_load("cnpg-failover.json");
	m = open_manager("cnpg", instances, 2);
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->leader, "main-1");
	cr_assert_str_eq(data_member(v, "main-1")->instance, "shop/main-1");
	cr_assert_str_eq(data_member(v, "main-1")->address, "10.244.1.5");
	cr_assert_str_eq(data_member(v, "main-1")->node, "node1");
	cluster_view_free(v);
	cr_assert_str_eq(m->ops->services(m).write, "main-rw");
	cr_assert_str_eq(m->ops->services(m).read, "main-ro");
	cr_assert_eq(m->ops->watch(m, 200, &l, NULL), 0);
	step = 1;
	until_told((const char *[]){"ready shop/main-1 fail\n", NULL});
	step = 2;
	until_told((const char *[]){"chosen - pending\n", "phase - fail\n", "kubernetes - FailingOver\n",
		"kubernetes shop/main-1 Unhealthy\n", NULL});
	cr_assert(!strstr(told, "Old"), "of before: %s", told);
	step = 3;
	until_told((const char *[]){"chosen shop/main-3 main-3\n", NULL});
	step = 4;
	until_told((const char *[]){"pod shop/main-1 gone\n", NULL});
	until_leader("main-3");
	step = 5;
	until_told((const char *[]){"pod shop/main-1 new\n", "phase - ok\n", "ready shop/main-1 ok\n", NULL});
	until_leader("main-3");
	cr_assert_str_eq(data_member(seen, "main-1")->address, "10.244.2.44", "another address than before");
	cr_assert_str_eq(data_member(seen, "main-1")->node, "node2");
	cr_assert_null(strstr(strstr(told, "FailingOver") + 1, "FailingOver"), "told once: %s", told);
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
	const struct manager_listener l = {on_view, on_event, NULL};
	struct cluster_view *v = NULL;
	struct manager *m;

	refuse_events = true;	/* without that right all else is told */
	data = data_load("patroni-failover.json");
	m = open_manager("zalando", instances, 2);
	cr_assert_eq(m->ops->read(m, &v, NULL), 0);
	cr_assert_str_eq(v->leader, "orders-0");
	cr_assert(v->synchronous);
	cr_assert_str_eq(data_member(v, "orders-1")->state, "streaming");
	cluster_view_free(v);
	cr_assert_str_eq(m->ops->services(m).write, "orders");
	cr_assert_str_eq(m->ops->services(m).read, "orders-repl");
	cr_assert_eq(m->ops->watch(m, 200, &l, NULL), 0);
	step = 1;
	until_told((const char *[]){"chosen - none\n", "ready shop/orders-0 fail\n", NULL});
	until_leader(NULL);
	step = 2;
	until_told((const char *[]){"chosen shop/orders-1 orders-1\n", "pod shop/orders-0 new\n",
		NULL});
	until_leader("orders-1");
	cr_assert_str_eq(data_member(seen, "orders-0")->address, "10.244.1.77");
	step = 3;
	until_told((const char *[]){"pod shop/orders-0 gone\n", NULL});
	while (!seen->paused)
		cr_assert_geq(sd_event_run(event, 50000), 0);
	m->ops->free(m);
}
