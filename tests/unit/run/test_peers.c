#include "fake.h"

#include "run/peers.h"

/* names: one text with blanks between; wanted likewise. */
static char **split(const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	char **list = NULL, *save = NULL;

	for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
		strv_push(&list, strdup(p));
	return list;
}

static void resolves(const struct cluster *c, size_t target, const char *names, const char *wanted)
{
	_cleanup_strv_ char **list = split(names), **want = split(wanted), **got = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct peer_list peers = {0};

	cr_assert_eq(peers_resolve(c, &c->targets.items[target], list, &got, &err), 0, "%s: %s", names,
		err_text(err));
	cr_assert_eq(strv_length(got), strv_length(want), "%s", names);
	for (size_t i = 0; want && want[i]; i++)
		cr_assert_str_eq(got[i], want[i], "%s: %s, wanted %s", names, got[i], want[i]);
	/* An agent takes them. */
	cr_assert_eq(peer_list_parse(got, &peers, &err), 0, "%s", err_text(err));
	peer_list_done(&peers);
}

static void refused(const struct cluster *c, size_t target, const char *names, const char *words)
{
	_cleanup_strv_ char **list = split(names), **got = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(peers_resolve(c, &c->targets.items[target], list, &got, &err), -EINVAL, "%s", names);
	cr_assert(strstr(err_text(err), words), "%s: %s", names, err_text(err));
	cr_assert_null(got);
}

Test(peers, members)
{
	struct cluster c = fake_cluster();

	resolves(&c, 1, "primary", "primary=10.0.0.1 primary=[fd00::1]");
	resolves(&c, 1, "primary:5432", "primary=10.0.0.1:5432 primary=[fd00::1]:5432");
	resolves(&c, 0, "replicas", "replicas=10.0.0.2 replicas=10.0.0.3");
	resolves(&c, 1, "replicas:5432-5433", "replicas=10.0.0.3:5432-5433");
	resolves(&c, 1, "instances", "instances=10.0.0.1 instances=[fd00::1] instances=10.0.0.3");
	resolves(&c, 0, "lab/pg2", "lab/pg2=10.0.0.2");
	resolves(&c, 0, "lab/pg2:8008 replicas", "lab/pg2=10.0.0.2:8008 replicas=10.0.0.2 replicas=10.0.0.3");
	refused(&c, 0, "primary", "that is the target itself (lab/pg1)");
	refused(&c, 0, "lab/pg1", "that is the target itself");
	refused(&c, 0, "lab/pg9", "no instance \"lab/pg9\"; there are: lab/pg1, lab/pg2, lab/pg3");
	refused(&c, 0, "slaves", "one of primary, replicas, ");
	refused(&c, 0, "Primary", "one of primary, replicas, ");
	cluster_done(&c);
}

Test(peers, by_the_managers_word)
{
	struct cluster c = fake_cluster();

	/* pg1 says that it is the primary, and is not any more. */
	fake_view(&c, "pg3");
	resolves(&c, 0, "primary", "primary=10.0.0.3");
	resolves(&c, 0, "replicas", "replicas=10.0.0.2");
	resolves(&c, 1, "replicas", "replicas=10.0.0.1 replicas=[fd00::1]");
	/* Nobody leads, and two claim to. */
	fake_view(&c, NULL);
	c.targets.items[1].info->role = ROLE_PRIMARY;
	refused(&c, 2, "primary", "the cluster has none now");
	resolves(&c, 2, "instances", "instances=10.0.0.1 instances=[fd00::1] instances=10.0.0.2");
	cluster_done(&c);
}

Test(peers, nobody_there)
{
	struct cluster c = fake_cluster();

	c.targets.count = 1;
	refused(&c, 0, "replicas", "resolves to nothing: the cluster has no other member");
	refused(&c, 0, "instances:5432", "resolves to nothing");
	c.targets.count = 2;
	strv_free(c.targets.items[1].info->addresses);
	c.targets.items[1].info->addresses = NULL;
	refused(&c, 0, "lab/pg2", "resolves to nothing: it has no address");
	refused(&c, 0, "all replicas", "resolves to nothing");
	c.targets.count = 3;
	cluster_done(&c);
}

Test(peers, store)
{
	struct cluster c = fake_cluster();
	char *by_port[] = {"all:2379", NULL};
	char *two[] = {"10.0.9.1:2379", "fd00::9", NULL};
	char *hostile[] = {"10.0.9.1/99", NULL};

	refused(&c, 0, "dcs", "manager fake names no configuration store");
	fake_manager.dcs = by_port;
	resolves(&c, 0, "dcs", "dcs=all:2379-2379");
	resolves(&c, 0, "dcs:1-5", "dcs=all:1-5");
	fake_manager.dcs = two;
	resolves(&c, 0, "dcs", "dcs=10.0.9.1:2379 dcs=[fd00::9]");
	resolves(&c, 0, "dcs:443", "dcs=10.0.9.1:443 dcs=[fd00::9]:443");
	fake_manager.dcs = hostile;
	refused(&c, 0, "dcs", "peer \"dcs\"");
	fake_manager.dcs = NULL;
	cluster_done(&c);
}

Test(peers, others)
{
	struct cluster c = fake_cluster();

	resolves(&c, 0, "all", "all=all");
	resolves(&c, 0, "all:5432", "all=all:5432-5432");
	resolves(&c, 0, "dns", "dns=all:53-53");
	/* Addresses pass as they are. */
	resolves(&c, 0, "10.0.0.0/24:80 fd00::1 [fd00::/64]:8000-8010 x=10.0.0.9 y=all",
		"10.0.0.0/24:80 fd00::1 [fd00::/64]:8000-8010 x=10.0.0.9 y=all");
	resolves(&c, 0, "", "");
	refused(&c, 0, "10.0.0.1/24", "10.0.0.1/24");
	refused(&c, 0, "10.0.0", "10.0.0");
	refused(&c, 0, "all:0", "all:0");
	refused(&c, 0, "dns:99999", "dns:99999");
	unsetenv("KUBERNETES_SERVICE_HOST");
	refused(&c, 0, "apiserver", "no Kubernetes here");
	setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
	resolves(&c, 0, "apiserver", "apiserver=10.96.0.1");
	setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
	resolves(&c, 0, "apiserver:6443", "apiserver=[fd00::1]:6443");
	cluster_done(&c);
}

Test(peers, clients)
{
	struct cluster c = fake_cluster();

	strv_free(c.targets.items[0].info->addresses);
	c.targets.items[0].info->addresses = NULL;
	refused(&c, 0, "clients", "no route from here to lab/pg1");
	strv_push(&c.targets.items[0].info->addresses, strdup("127.0.0.1"));
	resolves(&c, 0, "clients", "clients=127.0.0.1");
	cluster_done(&c);
}
