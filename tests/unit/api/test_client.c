#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>
#include "api/client.h"
#include "core/clock.h"

static int pair[2];

static struct client *connected(struct client_list *list)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	return client_new(list, pair[0], NULL);
}

static bool is_shut(void)
{
	char c;

	return recv(pair[1], &c, 1, 0) == 0;
}

/* Is the client left at limit_ms less 1 s, and shut 1 s beyond it? */
static void expect_limit(struct client_list *list, const struct client *c, uint64_t limit_ms)
{
	uint64_t limit_ns = limit_ms * NS_PER_MS;

	cr_assert_eq(client_list_expire(list, c->since_ns + limit_ns - NS_PER_S), 0);
	cr_assert_not(is_shut());
	cr_assert_eq(client_list_expire(list, c->since_ns + limit_ns + NS_PER_S), 1);
	cr_assert(is_shut());
	close(pair[0]);
	close(pair[1]);
}

Test(client, each_phase_has_its_limit)
{
	struct client_list list = {0};
	struct client *c;

	c = connected(&list);
	expect_limit(&list, c, CLIENT_STRANGER_MS);
	client_free(&list, c);

	c = connected(&list);
	c->known = true;
	expect_limit(&list, c, CLIENT_IDLE_MS);
	client_free(&list, c);

	c = connected(&list);
	c->known = c->busy = true;
	expect_limit(&list, c, CLIENT_REQUEST_MS);
	client_free(&list, c);

	c = connected(&list);
	c->known = c->busy = c->following = true;
	expect_limit(&list, c, CLIENT_STALLED_MS);
	client_free(&list, c);
	cr_assert_eq(list.count, 0);
}

Test(client, a_follower_without_news_stays)
{
	struct client_list list = {0};
	struct client *c = connected(&list);

	c->known = c->busy = c->following = c->suspended = true;
	cr_assert_eq(client_list_expire(&list, c->since_ns + 86400 * NS_PER_S), 0);
	/* A clock read before the client came is no overflow. */
	c->suspended = false;
	cr_assert_eq(client_list_expire(&list, c->since_ns - 1), 0);
	client_free(&list, c);
}

Test(client, one_that_hangs_up_early_goes_at_once)
{
	struct client_list list = {0};
	struct client *c = connected(&list);

	c->known = true;
	cr_assert_eq(client_list_expire(&list, c->since_ns), 0);
	shutdown(pair[1], SHUT_WR);
	c->busy = c->answering = true;	/* it still waits for its answer */
	cr_assert_eq(client_list_expire(&list, c->since_ns), 0);
	c->answering = false;
	cr_assert_eq(client_list_expire(&list, c->since_ns), 1);
	cr_assert(is_shut());
	client_free(&list, c);
}

Test(client, the_list_keeps_its_links)
{
	struct client_list list = {0};
	struct client *c[3];

	for (int i = 0; i < 3; i++)
		c[i] = client_new(&list, -1, NULL);
	client_free(&list, c[1]);
	cr_assert_eq(list.first, c[2]);
	cr_assert_eq(c[2]->next, c[0]);
	cr_assert_eq(c[0]->previous, c[2]);
	client_free(&list, c[2]);
	cr_assert_eq(list.first, c[0]);
	cr_assert_null(c[0]->previous);
	client_free(&list, c[0]);
	client_free(&list, NULL);
	cr_assert_null(list.first);
}
