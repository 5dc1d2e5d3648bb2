/* The clients' way and their login, asked for at an API server by script. */
#include "../kube/server.h"
#include "fake.h"

#include "run/ways.h"
#include "session.h"

static _Atomic(bool) without_slices, without_rights, without_services;

/* ID and the addresses that it leads to. */
static const char services[] = "{\"metadata\": {}, \"items\": ["
	"{\"metadata\": {\"name\": \"rw\", \"namespace\": \"shop\"}, \"spec\": {\"clusterIP\": \"10.96.0.1\","
	" \"ports\": [{\"name\": \"pg\", \"port\": 6432}]}},"
	"{\"metadata\": {\"name\": \"ro\", \"namespace\": \"shop\"}, \"spec\": {\"clusterIP\": \"10.96.0.2\","
	" \"ports\": [{\"name\": \"pg\", \"port\": 5432}]}},"
	"{\"metadata\": {\"name\": \"all\", \"namespace\": \"shop\"}, \"spec\": {\"clusterIP\": \"10.96.0.3\","
	" \"ports\": [{\"name\": \"pg\", \"port\": 5432}]}}]}";

#define SLICE(service, addresses) "{\"metadata\": {\"name\": \"" service "-x\", \"namespace\": \"shop\", \"labels\":" \
	" {\"kubernetes.io/service-name\": \"" service "\"}}, \"addressType\": \"IPv4\", \"ports\": [{\"name\": \"pg\"," \
	" \"port\": 5432}], \"endpoints\": [" addresses "]}"
#define SLICE_TO(address) "{\"addresses\": [\"" address "\"], \"conditions\": {\"ready\": true}}"
static const char slices[] = "{\"metadata\": {}, \"items\": ["
	SLICE("rw", SLICE_TO("10.0.0.1")) "," SLICE("ro", SLICE_TO("10.0.0.2") "," SLICE_TO("10.0.0.3")) ","
	SLICE("all", SLICE_TO("10.0.0.1") "," SLICE_TO("10.0.0.2") "," SLICE_TO("10.0.0.3")) "]}";
#define ENDPOINTS(service, addresses) "{\"metadata\": {\"name\": \"" service "\", \"namespace\": \"shop\"}," \
	" \"subsets\": [{\"addresses\": [" addresses "], \"ports\": [{\"name\": \"pg\", \"port\": 5432}]}]}"
static const char endpoints[] = "{\"metadata\": {}, \"items\": ["
	ENDPOINTS("rw", "{\"ip\": \"10.0.0.1\"}") "," ENDPOINTS("ro", "{\"ip\": \"10.0.0.3\"}") "]}";

static void serve(int fd, unsigned nth, const char *request)
{
	(void)nth;
	if (strstr(request, "/secrets/app "))
		answer(fd, "200 OK", "{\"metadata\": {}, \"data\": {\"username\": \"YXBw\", \"password\": \"czNjcmV0\"}}");
	else if (strstr(request, "/services") && !without_services)
		answer(fd, "200 OK", services);
	else if (strstr(request, "/endpointslices") && without_rights)
		answer(fd, "403 Forbidden", "{\"kind\": \"Status\", \"code\": 403, \"message\": \"no slices\"}");
	else if (strstr(request, "/endpointslices") && !without_slices)
		answer(fd, "200 OK", slices);
	else if (strstr(request, "/endpoints?"))
		answer(fd, "200 OK", endpoints);
	else
		answer(fd, "404 Not Found", "{\"kind\": \"Status\", \"code\": 404, \"message\": \"not found\"}");
}

static struct session session;
static struct cluster cluster;

static void set_up(void)
{
	server_set_up();
	server_serve(serve);
	session.kube = kube;
	cluster = fake_cluster();
	cluster.session = &session;
	for (size_t i = 0; i < cluster.targets.count; i++)
		cluster.targets.items[i].info->namespace = strdup("shop");
}

static void tear_down(void)
{
	cluster_done(&cluster);
	server_tear_down();
}

TestSuite(ways_find, .init = set_up, .fini = tear_down, .timeout = 60);

static void are(const char *write, uint16_t port, const char *read)
{
	_cleanup_(ways_done) struct ways w = {0};
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(ways_find(&cluster, NULL, &w, &err), 0, "%s", err_text(err));
	if (!write) {
		cr_assert(!w.write_host && !w.read_host && !w.write.name && !w.read.name);
		return;
	}
	cr_assert_str_eq(w.write_host, write);
	cr_assert_eq(w.write.port, port);
	cr_assert_str_eq(w.write.address, "10.96.0.1");
	if (read)
		cr_assert_str_eq(w.read_host, read);
	else
		cr_assert_null(w.read_host);
	cr_assert_null(w.login.user);
}

Test(ways_find, services_by_what_is_behind_them)
{
	are("rw.shop.svc", 6432, "ro.shop.svc");
	without_slices = true;
	are("rw.shop.svc", 6432, "ro.shop.svc");
	without_slices = false;
	without_rights = true;
	are("rw.shop.svc", 6432, "ro.shop.svc");
}

static struct manager_services hints(struct manager *m)
{
	(void)m;
	return (struct manager_services){.write = "all", .read = "ro"};
}

Test(ways_find, the_managers_word_goes_first)
{
	struct manager_ops ops = *cluster.manager->ops;
	struct manager m = {cluster.manager->driver, &ops};
	struct manager *own = cluster.manager;
	struct ways w = {0};

	ops.services = hints;
	cluster.manager = &m;
	cr_assert_eq(ways_find(&cluster, NULL, &w, NULL), 0);
	cr_assert_str_eq(w.write_host, "all.shop.svc");
	cr_assert_eq(w.write.port, 5432);
	cr_assert_str_eq(w.read_host, "ro.shop.svc");
	ways_done(&w);
	cluster.manager = own;
}

Test(ways_find, none)
{
	/* A readers' way alone is none: it would be compared with a list of pods. */
	cluster.targets.items[0].info->role = ROLE_REPLICA;
	are(NULL, 0, NULL);
	cluster.targets.items[0].info->role = ROLE_PRIMARY;
	for (size_t i = 0; i < cluster.targets.count; i++)
		cluster.targets.items[i].info->port = 7777;
	are(NULL, 0, NULL);
	/* Not in a pod, or no Kubernetes at all: nothing is asked. */
	server.requests[0] = '\0';
	free(steal_ptr(cluster.targets.items[0].info->namespace));
	are(NULL, 0, NULL);
	session.kube = NULL;
	are(NULL, 0, NULL);
	cr_assert_str_empty(server.requests);
}

static void fails(const char *secret, int code, const char *words)
{
	_cleanup_err_ struct err *err = NULL;
	struct ways w = {0};

	cr_assert_eq(ways_find(&cluster, secret, &w, &err), code, "%s", err_text(err));
	cr_assert(strstr(err_text(err), words), "%s", err_text(err));
	cr_assert(!w.login.user && !w.write.name);
}

Test(ways_find, logins)
{
	static const char *const wrong[] = {"app", "/app", "shop/", "shop/app/x", ""};
	struct ways w = {0};

	cr_assert_eq(ways_find(&cluster, "elsewhere/app", &w, NULL), 0);
	cr_assert_str_eq(w.login.user, "app");
	cr_assert_str_eq(w.login.password, "s3cret");
	cr_assert_str_eq(w.write.name, "rw");
	cr_assert(strstr(server.requests, "/api/v1/namespaces/elsewhere/secrets/app "), "%s", server.requests);
	ways_done(&w);
	for (size_t i = 0; i < ELEMENTS(wrong); i++)
		fails(wrong[i], -EINVAL, "expected NAMESPACE/NAME");
	fails("shop/none", -ENOENT, "Secret shop/none: ");
	without_services = true;
	fails("elsewhere/app", -ENOENT, "services of namespace shop: Kubernetes");
	session.kube = NULL;
	fails("shop/app", -EINVAL, "there is no Kubernetes here");
}
