#include <arpa/inet.h>
#include <criterion/criterion.h>
#include "fault/conn_choice.h"

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
