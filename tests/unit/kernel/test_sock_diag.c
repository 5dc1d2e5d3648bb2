#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kernel/netns.h"
#include "kernel/sock_diag.h"

struct pair {
	int diag, listener, here, there;
	uint16_t port;	/* the listener's */
};

static void pair_open(struct pair *p, int family)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a6);
	int ns;

	cr_assert_eq(netns_open(getpid(), &ns, NULL), 0);
	cr_assert_eq(sock_diag_open(ns, &p->diag, NULL), 0);
	close(ns);
	/* The accepting end of an IPv4 client may be an IPv6 socket. */
	p->listener = socket(family, SOCK_STREAM, 0);
	if (family == AF_INET6)
		cr_assert_eq(bind(p->listener, (struct sockaddr *)&a6, sizeof(a6)), 0);
	else
		cr_assert_eq(bind(p->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(p->listener, 1), 0);
	cr_assert_eq(getsockname(p->listener, (struct sockaddr *)&a6, &length), 0);
	p->port = ntohs(a6.sin6_port);
	a.sin_port = a6.sin6_port;
	p->here = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(connect(p->here, (struct sockaddr *)&a, sizeof(a)), 0);
	p->there = accept(p->listener, NULL, NULL);
	cr_assert_geq(p->there, 0);
}

static void pair_close(struct pair *p)
{
	close(p->diag);
	close(p->listener);
	close(p->here);
	close(p->there);
}

static bool find(const struct pair *p, int fd, struct sock_info *ret)
{
	struct sock_info *list;
	struct stat st;
	bool found = false;
	size_t n;

	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(sock_diag_list(p->diag, &list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		if (list[i].inode == st.st_ino) {
			cr_expect_not(found, "listed twice");
			*ret = list[i];
			found = true;
		}
	}
	free(list);
	return found;
}

static void lists_and_destroys(int family)
{
	static const uint8_t loopback[4] = {127, 0, 0, 1};
	struct sock_info s, other;
	struct pair p;
	char c;

	pair_open(&p, family);
	cr_expect_not(find(&p, p.listener, &s), "a listener is no connection");
	cr_assert(find(&p, p.there, &s));
	cr_expect_eq(s.family, AF_INET);
	cr_expect_eq(s.local_port, p.port);
	cr_expect_arr_eq(s.local, loopback, 4);
	cr_expect_arr_eq(s.remote, loopback, 4);
	cr_assert(find(&p, p.here, &other));
	cr_expect_eq(other.remote_port, p.port);
	cr_expect_eq(other.local_port, s.remote_port);
	cr_assert_eq(sock_diag_destroy(p.diag, &s, NULL), 0);
	cr_expect_eq(recv(p.here, &c, 1, 0), -1);
	cr_expect_eq(errno, ECONNRESET);
	cr_expect_eq(recv(p.there, &c, 1, 0), -1);
	cr_expect_eq(errno, ECONNABORTED);
	cr_expect_eq(sock_diag_destroy(p.diag, &s, NULL), -ENOENT);
	pair_close(&p);
}

Test(sock_diag, ipv4)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	lists_and_destroys(AF_INET);
}

Test(sock_diag, ipv4_accepted_by_an_ipv6_socket)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	lists_and_destroys(AF_INET6);
}

Test(sock_diag, another_socket_of_the_same_name_is_not_meant)
{
	struct sock_info s;
	struct pair p;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	pair_open(&p, AF_INET);
	cr_assert(find(&p, p.there, &s));
	s.id.idiag_cookie[0] ^= 1;
	cr_expect_eq(sock_diag_destroy(p.diag, &s, NULL), -ENOENT);
	cr_expect(find(&p, p.there, &s));
	pair_close(&p);
}
