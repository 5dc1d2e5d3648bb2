#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include "core/cleanup.h"
#include "fault/conn_store.h"

static uint32_t managers[] = {11, 12, 13};

static struct conn_store store_of(const char *manager)
{
	return (struct conn_store){.manager = manager, .sockets = managers, .n_sockets = ELEMENTS(managers)};
}

static struct sock_info socket_to(uint32_t inode, int family, const char *remote, uint16_t port)
{
	struct sock_info s = {.family = family, .inode = inode, .local_port = 40000, .remote_port = port};

	cr_assert_eq(inet_pton(family, remote, s.remote), 1);
	return s;
}

static bool has(const struct conn_store *store, const char *peer, uint32_t inode, const char *remote, uint16_t port)
{
	struct sock_info s = socket_to(inode, strchr(remote, ':') ? AF_INET6 : AF_INET, remote, port);
	char *texts[] = {(char *)peer, NULL};
	struct peer_list peers = {0};
	bool r;

	cr_assert_eq(peer_list_parse(texts, &peers, NULL), 0, "%s", peer);
	r = conn_store_has(store, &s, &peers);
	peer_list_done(&peers);
	return r;
}

static void environment(struct conn_store *s, const char *host, const char *port)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "PATH=/bin%cKUBERNETES_SERVICE_HOST=%s%cKUBERNETES_SERVICE_PORT=%s%c", 0,
		host, 0, port, 0);

	conn_store_read_environment(s, text, (size_t)n);
}

/* A client that connects to the same port is not the manager. */
Test(conn_store, ports_of_the_managers_own_connections)
{
	struct conn_store s = store_of("Patroni");

	cr_expect(has(&s, "all", 11, "10.0.0.5", 2379));
	cr_expect(has(&s, "all", 13, "fd00::5", 8500));
	cr_expect_not(has(&s, "all", 14, "10.0.0.5", 2379), "another program's");
	cr_expect_not(has(&s, "all", 0, "10.0.0.5", 2379), "nobody's");
	cr_expect_not(has(&s, "all", 12, "10.0.0.5", 5432), "the manager's, to PostgreSQL");
	cr_expect_not(has(&s, "all", 12, "10.96.0.1", 443), "no API server is known");
}

Test(conn_store, the_api_server_of_its_environment)
{
	struct conn_store s = store_of("CloudNativePG");

	environment(&s, "10.96.0.1", "443");
	cr_expect(has(&s, "all", 11, "10.96.0.1", 443));
	cr_expect_not(has(&s, "all", 99, "10.96.0.1", 443), "another program's");
	cr_expect_not(has(&s, "all", 11, "10.96.0.2", 443));
	cr_expect_not(has(&s, "all", 11, "10.96.0.1", 444));
	cr_expect_not(has(&s, "all", 11, "::ffff:10.96.0.1", 443));
	s = store_of("CloudNativePG");
	environment(&s, "fd00:96::1", "443");
	cr_expect(has(&s, "all", 11, "fd00:96::1", 443));
}

Test(conn_store, environments_that_make_no_sense)
{
	static const char *const bad[][2] = {{"", "443"}, {"kubernetes", "443"}, {"10.96.0.1", "0"},
		{"10.96.0.1", "65536"}, {"10.96.0.1", "x"}, {"10.96.0.1.5", "443"}, {"10.96.0.1", ""}};
	static const char cut[] = "KUBERNETES_SERVICE_PORT=443\0KUBERNETES_SERVICE_HOST=10.96.0.10";

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		struct conn_store s = store_of("Patroni");

		environment(&s, bad[i][0], bad[i][1]);
		cr_expect_eq(s.family, 0, "%s:%s", bad[i][0], bad[i][1]);
	}
	for (size_t n = 0; n < sizeof(cut); n++) {
		struct conn_store s = store_of("Patroni");

		conn_store_read_environment(&s, cut, n);
		cr_expect_eq(s.family, 0, "%zu bytes", n);
	}
}

/* What the coordinator resolves "dcs" to: endpoints that no variable names. */
Test(conn_store, peers_labelled_dcs)
{
	struct conn_store s = store_of("Patroni");

	cr_expect(has(&s, "dcs=192.168.7.1:6443", 11, "192.168.7.1", 6443));
	cr_expect_not(has(&s, "dcs=192.168.7.1:6443", 99, "192.168.7.1", 6443));
	cr_expect_not(has(&s, "dcs=192.168.7.1:6443", 11, "192.168.7.2", 6443));
	cr_expect_not(has(&s, "192.168.7.1:6443", 11, "192.168.7.1", 6443), "an address is no store by itself");
	cr_expect_not(has(&s, "dcsx=192.168.7.1:6443", 11, "192.168.7.1", 6443));
}

static void checked(const char *manager, bool api, const char *peer, const char *words)
{
	struct conn_store s = store_of(manager);
	_cleanup_err_ struct err *err = NULL;
	char *texts[] = {(char *)peer, NULL};
	struct peer_list peers = {0};

	if (api)
		environment(&s, "10.96.0.1", "443");
	cr_assert_eq(peer_list_parse(texts, &peers, NULL), 0);
	cr_expect_eq(conn_store_check(&s, &peers, &err), words ? -EOPNOTSUPP : 0, "%s", manager);
	if (words)
		cr_expect(strstr(err_text(err), words), "%s", err_text(err));
	peer_list_done(&peers);
}

Test(conn_store, managers_without_a_store)
{
	checked("Patroni", false, "all", NULL);
	checked("stolon-keeper", false, "all", NULL);
	checked("CloudNativePG", true, "all", NULL);
	checked("CloudNativePG", false, "all", "KUBERNETES_SERVICE_HOST");
	checked("CloudNativePG", false, "dcs=10.96.0.1:443", NULL);
	checked("repmgrd", true, "all", "repmgrd has no configuration store");
	checked("pg_autoctl", false, "all", "pg_autoctl has no configuration store");
}

static void remarked(const char *peer, const char *wanted)
{
	struct conn_store s = store_of("Patroni");
	_cleanup_free_ char *text = NULL;
	char *texts[] = {(char *)peer, NULL};
	struct peer_list peers = {0};

	cr_assert_eq(peer_list_parse(texts, &peers, NULL), 0);
	text = conn_store_remark(&s, &peers);
	cr_expect_str_eq(text, wanted);
	peer_list_done(&peers);
}

Test(conn_store, a_remark_where_none_was_found)
{
	remarked("all", "no connection of Patroni's to a store was found at arming; name it with peers dcs");
	remarked("dcs=10.96.0.1:443", "no connection of Patroni's to a store was found at arming");
}
