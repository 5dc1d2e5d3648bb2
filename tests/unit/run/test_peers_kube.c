/* Peers in Kubernetes, by objects as an API server gives them. */
#include "fake.h"
#include "unit/kube/server.h"

#include "run/peers.h"

static const char *refuse_path;	/* answered by 403 */
static bool dual_stack_dns;		/* CoreDNS under its own name, with both families */
static bool no_operators;		/* no pod has any operator's labels */
static bool old_server;			/* 1.20: no EndpointSlices of v1 */

#define NAME(ns, name) "\"metadata\":{\"namespace\":\"" ns "\",\"name\":\"" name "\"}"
#define SERVICE(ns, name, ips, port, selector) \
	"{" NAME(ns, name) ",\"spec\":{\"type\":\"ClusterIP\",\"clusterIP\":\"None\",\"clusterIPs\":[" ips "],"              \
	"\"ports\":[{\"name\":\"p\",\"port\":" port "}],\"selector\":{" selector "}},\"status\":{\"loadBalancer\":{}}}"
#define SLICE(ns, service, addresses, port)                                                                         \
	"{\"metadata\":{\"namespace\":\"" ns "\",\"name\":\"" service "-x1\",\"labels\":{\"kubernetes.io/service-name\":\""      \
	service "\"}},\"ports\":[{\"name\":\"p\",\"port\":" port "}],\"endpoints\":[" addresses "]}"
#define END(pod, ip) "{\"addresses\":[\"" ip "\"],\"conditions\":{\"ready\":true},\"targetRef\":{\"kind\":\"Pod\",\"name\":\"" pod "\"}}"
#define LIST(items) "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":[" items "]}"

/* CloudNativePG's three services, as they are with pg1 leading; dual stack. */
static const char db_services[] = LIST(
	SERVICE("db", "main-rw", "\"10.96.0.11\",\"fd96::11\"", "5432", "\"cnpg.io/cluster\":\"main\"") ","
	SERVICE("db", "main-ro", "\"10.96.0.12\"", "5432", "\"cnpg.io/cluster\":\"main\"") ","
	SERVICE("db", "main-r", "\"10.96.0.13\"", "5432", "\"cnpg.io/cluster\":\"main\"") ","
	SERVICE("db", "pooler", "\"10.96.0.14\"", "6432", "\"app\":\"pooler\"") ","
	SERVICE("db", "headless", "\"None\"", "5432", "\"a\":\"b\"") ","
	"{" NAME("db", "far") ",\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"db.example.com\"}},"
	"{},7");
static const char db_slices[] = LIST(
	SLICE("db", "main-rw", END("pg1", "10.0.0.1"), "5432") ","
	SLICE("db", "main-rw", END("pg1", "fd00::1"), "5432") ","
	SLICE("db", "main-ro", END("pg2", "10.0.0.2") "," END("pg3", "10.0.0.3"), "5432") ","
	SLICE("db", "main-r", END("pg1", "10.0.0.1") "," END("pg2", "10.0.0.2") "," END("pg3", "10.0.0.3"), "5432") ","
	SLICE("db", "pooler", END("pool1", "10.0.0.20"), "16432") ","
	SLICE("db", "headless", END("pg1", "10.0.0.1"), "5432") ","
	SLICE("db", "not-there", END("x", "10.0.0.99"), "5432"));

#define ENDPOINTS(ns, name, ready, not_ready) \
	"{" NAME(ns, name) ",\"subsets\":[{\"addresses\":[" ready "],\"notReadyAddresses\":[" not_ready "],"               \
	"\"ports\":[{\"name\":\"p\",\"port\":5432}]}]}"
static const char db_endpoints[] = LIST(
	ENDPOINTS("db", "main-rw", "", "{\"ip\":\"10.0.0.1\",\"targetRef\":{\"kind\":\"Pod\",\"name\":\"pg1\"}}") ","
	ENDPOINTS("db", "main-ro", "{\"ip\":\"10.0.0.2\"},{\"ip\":\"10.0.0.3\"},{\"ip\":\"what\"}", ""));

#define POD(ns, name, ip, more) \
	"{" NAME(ns, name) ",\"spec\":{\"nodeName\":\"node2\"" more "},\"status\":{\"phase\":\"Running\",\"podIP\":\"" ip \
	"\",\"podIPs\":[{\"ip\":\"" ip "\"}]}}"

static const struct {
	const char *path, *body;
} objects[] = {
	{"/api/v1/namespaces/db/services?", db_services},
	{"/apis/discovery.k8s.io/v1/namespaces/db/endpointslices?", db_slices},
	{"/api/v1/namespaces/db/endpoints?", db_endpoints},
	{"/api/v1/namespaces/default/services?",
		LIST(SERVICE("default", "kubernetes", "\"10.96.0.1\"", "443", ""))},
	{"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?",
		LIST("{\"metadata\":{\"namespace\":\"default\",\"name\":\"kubernetes\",\"labels\":{\"kubernetes.io/service-name\":"
		     "\"kubernetes\"}},\"ports\":[{\"name\":\"p\",\"port\":6443}],\"endpoints\":[{\"addresses\":[\"192.0.2.1\"]},"
		     "{\"addresses\":[\"192.0.2.2\"]}]}")},
	{"/api/v1/namespaces/kube-system/services?",
		LIST(SERVICE("kube-system", "kube-dns", "\"10.96.0.10\"", "53", "\"k8s-app\":\"kube-dns\""))},
	{"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices?",
		LIST(SLICE("kube-system", "kube-dns", END("coredns", "10.0.9.9"), "5353"))},
	{"/api/v1/namespaces/db/pods?labelSelector=app%3Dpooler%2Ctier%21%3Dx&",
		LIST(POD("db", "pool1", "10.0.0.20", ""))},
	{"/api/v1/namespaces/other/pods?labelSelector=app&",
		LIST(POD("other", "a", "10.0.5.1", ",\"hostNetwork\":true") ","
		     "{" NAME("other", "done") ",\"status\":{\"phase\":\"Succeeded\",\"podIP\":\"10.0.5.2\"}}")},
	{"/api/v1/namespaces/other/services?", LIST("")},
	{"/apis/discovery.k8s.io/v1/namespaces/other/endpointslices?", LIST("")},
	{"/api/v1/pods?labelSelector=app.kubernetes.io%2Fname%3Dcloudnative-pg&",
		LIST(POD("other", "cnpg-1", "10.0.5.9", ""))},
	{"/api/v1/pods?labelSelector=postgres-operator.crunchydata.com%2Fcontrol-plane%3Dpostgres-operator&",
		LIST(POD("other", "pgo-1", "10.0.5.20", ""))},
	{"/api/v1/pods?labelSelector=name%3Dpostgres-operator&", LIST(POD("other", "by-manifest", "10.0.5.21", ""))},
	{"/api/v1/pods?labelSelector=app.kubernetes.io%2Fname%3Dpostgres-operator&",
		LIST(POD("other", "by-chart", "10.0.5.22", ""))},
	{"/api/v1/pods?labelSelector=app%3Dstackgres-operator&", LIST(POD("other", "sg-1", "10.0.5.23", ""))},
	{"/api/v1/pods?labelSelector=app%3DStackGresOperator&", LIST(POD("other", "sg-2", "10.0.5.24", ""))},
	{"/api/v1/nodes/node2 ",
		"{\"metadata\":{\"name\":\"node2\"},\"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"192.0.2.12\"},"
		"{\"type\":\"Hostname\",\"address\":\"node2\"}]}}"},
	{"/api/v1/pods?fieldSelector=spec.nodeName%3Dnode2&",
		LIST(POD("db", "pg2", "10.0.0.2", "") "," POD("other", "b", "10.0.5.3", ""))},
	{"/api/v1/namespaces/db/pods/pg3 ", POD("db", "pg3", "192.0.2.13", ",\"hostNetwork\":true")},
};

static bool serve_dual_stack_dns(int fd, const char *path)
{
	static const char services[] = LIST(
		SERVICE("kube-system", "coredns", "\"10.96.0.10\",\"fd96::a\"", "53", "\"k8s-app\":\"kube-dns\""));
	static const char slices[] = LIST(SLICE("kube-system", "coredns", END("coredns", "10.0.9.9"), "5353") ","
		SLICE("kube-system", "coredns", END("coredns", "fd00:0:9::9"), "5353"));
	bool is_slices = strncmp(path, "/apis/discovery.k8s.io/v1/namespaces/kube-system/", 49) == 0;

	if (!is_slices && strncmp(path, "/api/v1/namespaces/kube-system/services?", 40) != 0)
		return false;
	answer(fd, "200 OK", is_slices ? slices : services);
	return true;
}

static void serve_objects(int fd, unsigned nth, const char *request)
{
	const char *path = request + 4;

	(void)nth;
	if (refuse_path && strncmp(path, refuse_path, strlen(refuse_path)) == 0) {
		answer(fd, "403 Forbidden", "{\"message\":\"forbidden\"}");
		return;
	}
	if (old_server && strncmp(path, "/apis/discovery", 15) == 0) {
		answer(fd, "404 Not Found", "404 page not found");
		return;
	}
	if (no_operators && strncmp(path, "/api/v1/pods?labelSelector=", 27) == 0) {
		answer(fd, "200 OK", LIST(""));
		return;
	}
	if (dual_stack_dns && serve_dual_stack_dns(fd, path))
		return;
	for (size_t i = 0; i < ELEMENTS(objects); i++)
		if (strncmp(path, objects[i].path, strlen(objects[i].path)) == 0) {
			answer(fd, "200 OK", objects[i].body);
			return;
		}
	answer(fd, "404 Not Found", "{\"message\":\"not found\"}");
}

static struct session session;
static struct cluster cluster;

static void set_up(void)
{
	static const char *const pods[] = {"pg1", "pg2", "pg3"};

	server_set_up();
	server_serve(serve_objects);
	session.kube = kube;
	cluster = fake_cluster();
	cluster.session = &session;
	free(cluster.name);
	cluster.name = strdup("db/main");
	for (size_t i = 0; i < 3; i++) {
		struct instance_info *n = cluster.targets.items[i].info;

		free(n->name);
		free(n->cluster);
		cr_assert_gt(asprintf(&n->name, "db/%s", pods[i]), 0);
		n->cluster = strdup("db/main");
		n->namespace = strdup("db");
		n->pod = strdup(pods[i]);
		n->node = strdup(i == 1 ? "node2" : "node1");
	}
}

static void tear_down(void)
{
	cluster_done(&cluster);
	server_tear_down();
}

TestSuite(peers_kube, .init = set_up, .fini = tear_down, .timeout = 60);

static char *join(char *const *list)
{
	char *text = strdup("");

	for (size_t i = 0; list && list[i]; i++) {
		char *longer = NULL;

		cr_assert_geq(asprintf(&longer, "%s%s%s", text, i ? " " : "", list[i]), 0);
		free(text);
		text = longer;
	}
	return text;
}

/* note: words that must be among the notes; NULL: there are none. */
static void resolves(size_t target, const char *name, const char *wanted, const char *note)
{
	char *const names[] = {(char *)name, NULL};
	_cleanup_strv_ char **got = NULL, **notes = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *text = NULL, *said = NULL;
	struct peer_list peers = {0};

	cr_assert_eq(peers_resolve_noted(&cluster, &cluster.targets.items[target], names, &got, &notes,
			     &err), 0, "%s: %s", name, err_text(err));
	text = join(got);
	said = join(notes);
	cr_expect_str_eq(text, wanted, "%s: %s\n  wanted %s", name, text, wanted);
	if (note)
		cr_expect(strstr(said, note), "%s: %s", name, said);
	else
		cr_expect_null(notes, "%s: %s", name, said);
	cr_expect_eq(peer_list_parse(got, &peers, &err), 0, "an agent takes them: %s", err_text(err));
	peer_list_done(&peers);
}

static void refused(size_t target, const char *name, const char *words)
{
	char *const names[] = {(char *)name, NULL};
	_cleanup_strv_ char **got = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_lt(peers_resolve(&cluster, &cluster.targets.items[target], names, &got, &err), 0, "%s",
		name);
	cr_expect(strstr(err_text(err), words), "%s: %s", name, err_text(err));
	cr_assert_null(got);
}

/* A replica streams through main-rw: without its ClusterIPs nothing would be cut. */
Test(peers_kube, primary)
{
	resolves(1, "primary",
		"primary=10.0.0.1 primary=[fd00::1] primary=10.96.0.11 primary=[fd96::11] primary=10.96.0.13",
		"service db/main-r (10.96.0.13) is cut too, and it leads to the target itself, pg3 besides");
	/* The Service's port that leads to the port asked for. */
	resolves(1, "primary:5432",
		"primary=10.0.0.1:5432 primary=[fd00::1]:5432 primary=10.96.0.11:5432 primary=[fd96::11]:5432 "
		"primary=10.96.0.13:5432", "main-r");
	resolves(1, "primary:8000", "primary=10.0.0.1:8000 primary=[fd00::1]:8000", NULL);
	refused(0, "primary", "that is the target itself");
}

/* main-rw leads to the target alone: after a promotion it leads to one of the replicas. */
Test(peers_kube, replicas)
{
	resolves(0, "replicas",
		"replicas=10.0.0.2 replicas=10.0.0.3 replicas=10.96.0.11 replicas=[fd96::11] "
		"replicas=10.96.0.12 replicas=10.96.0.13",
		"service db/main-rw (10.96.0.11) is cut too: it does not lead there now");
	resolves(1, "db/pg3", "db/pg3=10.0.0.3 db/pg3=10.96.0.12 db/pg3=10.96.0.13",
		"service db/main-ro (10.96.0.12) is cut too, and it leads to the target itself besides");
}

Test(peers_kube, servers_before_slices)
{
	old_server = true;
	/* An endpoint that is not ready counts: it will be. */
	resolves(1, "primary", "primary=10.0.0.1 primary=[fd00::1] primary=10.96.0.11 primary=[fd96::11] "
			       "primary=10.96.0.13", "main-r");
	resolves(2, "db/pg2", "db/pg2=10.0.0.2 db/pg2=10.96.0.12 db/pg2=10.96.0.13", "main-ro");
}

Test(peers_kube, slices_are_not_for_us)
{
	refuse_path = "/apis/discovery";
	resolves(2, "db/pg2", "db/pg2=10.0.0.2 db/pg2=10.96.0.12 db/pg2=10.96.0.13", "main-ro");
	refuse_path = "/api/v1/namespaces/db/services";
	refused(2, "db/pg2", "services of namespace db: Kubernetes API: forbidden");
}

Test(peers_kube, services)
{
	resolves(0, "service:pooler", "service/db/pooler=10.96.0.14:6432 service/db/pooler=10.0.0.20:16432", NULL);
	resolves(0, "service:db/pooler:6432", "service/db/pooler=10.96.0.14:6432", NULL);
	resolves(0, "service:db/pooler:16432",
		"service/db/pooler=10.96.0.14:6432 service/db/pooler=10.0.0.20:16432", NULL);
	resolves(1, "service:db/headless", "service/db/headless=10.0.0.1:5432", NULL);
	refused(0, "service:db/headless", "resolves to nothing");
}

Test(peers_kube, services_that_are_none)
{
	refused(0, "service:db/none", "namespace db has no service \"none\"");
	refused(0, "service:db/far", "alias for db.example.com");
	refused(0, "service:", "");
}

Test(peers_kube, pods)
{
	resolves(0, "pods:app=pooler,tier!=x", "pods/db=10.0.0.20 pods/db=10.96.0.14", NULL);
	resolves(0, "pods:app=pooler+tier!=x", "pods/db=10.0.0.20 pods/db=10.96.0.14", NULL);
	resolves(0, "pods:app=pooler,tier!=x:16432", "pods/db=10.0.0.20:16432 pods/db=10.96.0.14:6432", NULL);
	resolves(0, "pods:other:app", "pods/other=10.0.5.1", "pod a is on its node's network");
	refused(0, "pods:other:gone=x", "not found");
}

Test(peers_kube, nodes)
{
	resolves(0, "node:node2", "node/node2=192.0.2.12 node/node2=10.0.0.2 node/node2=10.0.5.3 "
		"node/node2=10.96.0.12 node/node2=10.96.0.13", "main-ro");
	resolves(1, "node:node2:10250", "node/node2=192.0.2.12:10250 node/node2=10.0.5.3:10250",
		"the kubelet's probes");
	refused(0, "node:none", "not found");
}

Test(peers_kube, what_kubernetes_is_made_of)
{
	static const struct manager_driver cnpg = {.name = "cnpg"};
	struct manager m = {&cnpg, &fake_ops};

	resolves(0, "apiserver", "apiserver=10.96.0.1:443 apiserver=192.0.2.1:6443 apiserver=192.0.2.2:6443", NULL);
	resolves(0, "apiserver:6443", "apiserver=10.96.0.1:443 apiserver=192.0.2.1:6443 apiserver=192.0.2.2:6443", NULL);
	resolves(0, "dns", "dns=10.96.0.10:53 dns=10.0.9.9:5353 dns=169.254.20.10:53", NULL);
	refused(0, "operator", "no pod of an operator of this cluster (manager fake)");
	cluster.manager = &m;
	resolves(0, "operator", "operator=10.0.5.9", NULL);
	cluster.manager = &fake_manager.base;
}

/* A target's resolv.conf knows what no Service does: a cache on its node on IPv6, its dnsConfig. What is in
 * the pod itself is nobody to be cut off from. */
Test(peers_kube, dns_of_both_families)
{
	static char *servers[] = {"fd00:ec2::53", "10.96.0.10", "127.0.0.53", "::1", "192.0.2.53", NULL};

	dual_stack_dns = true;
	resolves(0, "dns", "dns=10.96.0.10:53 dns=[fd96::a]:53 dns=10.0.9.9:5353 dns=[fd00:0:9::9]:5353 "
			   "dns=169.254.20.10:53", NULL);
	cluster.targets.items[0].info->nameservers = strv_copy(servers);
	resolves(0, "dns", "dns=10.96.0.10:53 dns=[fd96::a]:53 dns=10.0.9.9:5353 dns=[fd00:0:9::9]:5353 "
			   "dns=169.254.20.10:53 dns=[fd00:ec2::53]:53 dns=192.0.2.53:53", NULL);
	resolves(1, "dns", "dns=10.96.0.10:53 dns=[fd96::a]:53 dns=10.0.9.9:5353 dns=[fd00:0:9::9]:5353 "
			   "dns=169.254.20.10:53", NULL);
}

/* Each operator by the labels that its manifests or its chart give its pods, and by no other's. */
Test(peers_kube, operators)
{
	static const struct {
		const char *manager, *peers;
	} cases[] = {
		{"cnpg", "operator=10.0.5.9"},
		{"crunchy", "operator=10.0.5.20"},
		/* Manifests and chart label it each in their own way. */
		{"zalando", "operator=10.0.5.21 operator=10.0.5.22"},
		{"stackgres", "operator=10.0.5.23 operator=10.0.5.24"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct manager_driver driver = {.name = cases[i].manager};
		struct manager m = {&driver, &fake_ops};

		cluster.manager = &m;
		resolves(0, "operator", cases[i].peers, NULL);
	}
	no_operators = true;
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		struct manager_driver driver = {.name = cases[i].manager};
		struct manager m = {&driver, &fake_ops};

		cluster.manager = &m;
		refused(0, "operator", cases[i].manager);
	}
	cluster.manager = &fake_manager.base;
}

/* The API may be refused to us; the environment of every pod knows the API server. */
Test(peers_kube, apiserver_without_rights)
{
	refuse_path = "/api/v1/namespaces/default";
	setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
	resolves(0, "apiserver", "apiserver=10.96.0.1", NULL);
}

/* What an agent sees of an instance on its node's network is the loopback. */
Test(peers_kube, on_its_nodes_network)
{
	struct instance_info *n = cluster.targets.items[2].info;

	n->host_network = true;
	strv_free(n->addresses);
	n->addresses = NULL;
	strv_push(&n->addresses, strdup("127.0.0.1"));
	resolves(1, "db/pg3", "db/pg3=192.0.2.13", "pod pg3 is on its node's network");
}
