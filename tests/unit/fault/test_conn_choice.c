#include "postmaster.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "core/json.h"
#include "fault/conn_choice.h"
#include "fault/fault.h"
#include "kernel/netns.h"

static struct sock_info between(int family, const char *local, uint16_t local_port,
	const char *remote, uint16_t remote_port)
{
	struct sock_info s = {.family = family, .local_port = local_port, .remote_port = remote_port};

	cr_assert_eq(inet_pton(family, local, s.local), 1);
	cr_assert_eq(inet_pton(family, remote, s.remote), 1);
	return s;
}

static bool means(const char *text, const struct sock_info *s)
{
	struct peer p;
	bool r;

	cr_assert_eq(peer_parse(text, &p, NULL), 0, "%s", text);
	r = conn_matches_peer(s, &p);
	peer_done(&p);
	return r;
}

Test(conn_choice, addresses_are_those_of_the_other_end)
{
	struct sock_info s = between(AF_INET, "10.0.0.1", 5432, "10.0.1.200", 40000);

	cr_expect(means("all", &s));
	cr_expect(means("10.0.1.200", &s));
	cr_expect(means("10.0.1.192/26", &s));
	cr_expect_not(means("10.0.1.128/26", &s));
	cr_expect(means("10.0.0.0/15", &s));
	cr_expect(means("0.0.0.0/0", &s));
	cr_expect_not(means("10.0.0.1", &s));
	cr_expect_not(means("10.0.1.201", &s));
	cr_expect_not(means("::/0", &s));
}

Test(conn_choice, ports_are_those_of_either_end)
{
	struct sock_info s = between(AF_INET, "10.0.0.1", 5432, "10.0.1.200", 2379);

	cr_expect(means("all:5432", &s));
	cr_expect(means("all:2379", &s));
	cr_expect(means("10.0.1.0/24:2000-2379", &s));
	cr_expect_not(means("10.0.1.0/24:2000-2378", &s));
	cr_expect_not(means("all:5433-6000", &s));
}

Test(conn_choice, ipv6)
{
	struct sock_info s = between(AF_INET6, "fd00::1", 5432, "fd00:0:0:1::8f", 40000);

	cr_expect(means("fd00:0:0:1::/64", &s));
	cr_expect(means("[fd00:0:0:1::8f]:5432", &s));
	cr_expect_not(means("fd00::/64", &s));
	cr_expect(means("fd00:0:0:1::80/121", &s));
	cr_expect_not(means("fd00:0:0:1::/121", &s));
	cr_expect_not(means("0.0.0.0/0", &s));
	cr_expect(means("all", &s));
}

/* ---- the connections of a namespace of the test's own ---- */

#define PORT 5432

/* Both ends of a connection from a port that the kernel chose; ends[0] took it. */
static void connect_ends(uint16_t port, int ends[2])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	cr_assert_eq(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(listener, 1), 0);
	ends[1] = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(ends[1], (struct sockaddr *)&a, sizeof(a)), 0);
	ends[0] = accept(listener, NULL, NULL);
	cr_assert_geq(ends[0], 0);
	close(listener);
}

struct choice {
	int fd;
	struct conn_store store;
	struct instance_info instance;
	struct postmaster postmaster;
};

/* How many are chosen, all of that role; -1: they are of several. */
static int chosen(struct choice *c, const char *json, enum conn_role role)
{
	_cleanup_json_ cJSON *object = NULL;
	_cleanup_free_ struct conn *list = NULL;
	struct params *params = NULL;
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0, n_dcs;
	int count;

	cr_assert_eq(json_parse(json, strlen(json), &object, NULL), 0);
	cr_assert_eq(params_from_json(&fault_conn_reset, object, &params, NULL), 0, "%s", json);
	cr_assert_eq(conn_choose(c->fd, &c->instance, &c->postmaster.id, &c->store, params, &list, &n, &n_dcs,
			     &err), 0, "%s", err_text(err));
	count = (int)n;
	for (size_t i = 0; role != CONN_ANY && i < n; i++)
		if (list[i].role != role)
			count = -1;
	params_free(params);
	return count;
}

Test(conn_choice, what_each_connection_is_for, .timeout = 60)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct choice c = {.instance = {.name = (char *)"lab/pg1", .cluster_name = (char *)"lab", .port = PORT}};
	int sender[2], client[2], store[2], same[2], other[2], s, netns;
	struct stat st;
	uint32_t managers;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		cr_skip_test("needs root");
	s = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(ioctl(s, SIOCSIFFLAGS, &lo), 0);
	cr_assert_eq(netns_open(getpid(), &netns, NULL), 0);
	cr_assert_eq(sock_diag_open(netns, &c.fd, NULL), 0);
	connect_ends(PORT, sender);
	connect_ends(PORT, client);
	connect_ends(2379, store);
	connect_ends(2379, same);
	connect_ends(7777, other);
	postmaster_start(&c.postmaster, (const char *const[]){"postgres: lab: walsender r 127.0.0.1(1)",
		"postgres: lab: alice app 127.0.0.1(2) idle", NULL}, sender[0], (char *[]){NULL});

	/* The other ends are seen here as well, and are nobody's. Of the two to a store's port one is the manager's. */
	cr_assert_eq(fstat(store[1], &st), 0);
	managers = (uint32_t)st.st_ino;
	c.store = (struct conn_store){.manager = "Patroni", .sockets = &managers, .n_sockets = 1};
	cr_expect_eq(chosen(&c, "{}", CONN_ANY), 10);
	cr_expect_eq(chosen(&c, "{\"role\": \"replication\"}", CONN_REPLICATION), 1);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\"}", CONN_CLIENT), 1);
	cr_expect_eq(chosen(&c, "{\"role\": \"dcs\"}", CONN_DCS), 1);
	cr_expect_eq(chosen(&c, "{\"role\": \"dcs\", \"peers\": [\"dcs=127.0.0.1:7777\"]}", CONN_DCS), 0);
	c.store.n_sockets = 0;
	cr_expect_eq(chosen(&c, "{\"role\": \"dcs\"}", CONN_DCS), 0, "not the manager's");
	cr_expect_eq(chosen(&c, "{\"ports\": [\"2379\"]}", CONN_OTHER), 4);
	cr_expect_eq(chosen(&c, "{\"ports\": [\"7777\"]}", CONN_OTHER), 2);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\", \"ports\": [\"7777\"]}", CONN_CLIENT), 0);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\", \"peers\": [\"10.0.0.0/8\"]}", CONN_CLIENT), 0);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\", \"peers\": [\"127.0.0.1\"]}", CONN_CLIENT), 1);

	/* Without its walsender it is a client's, and one that its process has closed is gone. */
	kill(c.postmaster.children[0], SIGKILL);
	cr_assert(postmaster_is_named(c.postmaster.children[1], "postgres: lab: alice"));
	for (int i = 0; i < 5000 && chosen(&c, "{\"role\": \"replication\"}", CONN_REPLICATION); i++)
		usleep(1000);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\"}", CONN_CLIENT), 2);
	close(client[1]);
	close(client[0]);
	cr_expect_eq(chosen(&c, "{\"role\": \"client\"}", CONN_CLIENT), 1);
	postmaster_end(&c.postmaster);
	close(netns);
	close(c.fd);
}
