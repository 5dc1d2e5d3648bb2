/* An agent's clock, told by a server whose clock and whose slowness the test sets. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentlink/agent_ask.h"
#include "core/clock.h"

static struct {
	int fd;
	pthread_t thread;
	_Atomic int64_t ahead_ns;	/* of our clock */
	_Atomic unsigned slow_ms;	/* before the answer, after its clock was read */
	_Atomic unsigned fast_every;	/* each so many is not slow; 0: all are */
	_Atomic unsigned asked;
} server;

static sd_event *event;
static struct http_client *client;
static struct agent_link *agent;
static char url[64];

static void *serve(void *data)
{
	int fd = -1;

	(void)data;
	while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
		char request[4096], body[64], answer[256];
		ssize_t n;

		while ((n = read(fd, request, sizeof(request) - 1)) > 0) {
			unsigned nth = ++server.asked, every = server.fast_every;

			snprintf(body, sizeof(body), "{\"monotonic_ns\": \"%llu\"}",
				(unsigned long long)(now_ns() + (uint64_t)server.ahead_ns));
			if (!every || nth % every)
				usleep(server.slow_ms * 1000);
			n = snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
							     "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
			if (write(fd, answer, (size_t)n) != n)
				break;
		}
		close(fd);
	}
	return NULL;
}

static void set_up(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	struct agent_address address = {.url = url};
	_cleanup_err_ struct err *err = NULL;

	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(server.fd, 8), 0);
	cr_assert_eq(getsockname(server.fd, (struct sockaddr *)&a, &length), 0);
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(a.sin_port));
	cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(http_client_new(event, &client, &err), 0, "%s", err_text(err));
	cr_assert_eq(agent_link_new(client, &address, &agent, &err), 0, "%s", err_text(err));
}

static void tear_down(void)
{
	agent_link_free(agent);
	http_client_free(client);
	sd_event_unref(event);
	shutdown(server.fd, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.fd);
}

TestSuite(agent_clock, .init = set_up, .fini = tear_down, .timeout = 60);

static void measure(unsigned rounds)
{
	struct agent_replies replies;
	_cleanup_err_ struct err *err = NULL;

	agent_ask_clocks(&agent, 1, rounds, &replies);
	cr_assert_eq(agent_replies_check(&replies, &err), 0, "%s", err_text(err));
	agent_replies_done(&replies);
}

/* How far the mapped time is off; checked against what is stated. */
static uint64_t check_mapping(void)
{
	uint64_t uncertainty, now = now_ns();
	uint64_t mapped = agent_link_to_local_ns(agent, now + (uint64_t)server.ahead_ns, &uncertainty);
	uint64_t off = mapped > now ? mapped - now : now - mapped;

	cr_assert_leq(off, uncertainty);
	return uncertainty;
}

Test(agent_clock, the_shortest_trip_counts)
{
	server.ahead_ns = 3600 * (int64_t)NS_PER_S;
	server.slow_ms = 100;
	server.fast_every = 8;
	measure(8);
	cr_assert_eq(server.asked, 8);
	cr_assert_lt(check_mapping(), 50 * NS_PER_MS, "half of a slow trip or more");
}

/* Clocks drift: what is measured later replaces what was, */
Test(agent_clock, is_measured_again)
{
	server.ahead_ns = -5 * (int64_t)NS_PER_S;
	server.slow_ms = 60;
	measure(2);
	cr_assert_geq(check_mapping(), 30 * NS_PER_MS);
	server.ahead_ns += 20 * (int64_t)NS_PER_MS;
	server.slow_ms = 0;
	measure(4);
	cr_assert_lt(check_mapping(), 20 * NS_PER_MS);
}

/* but not by a trip that tells less than it. */
Test(agent_clock, a_worse_trip_changes_nothing)
{
	uint64_t before, uncertainty;

	server.slow_ms = 0;
	measure(8);
	before = agent_link_to_local_ns(agent, NS_PER_S, &uncertainty);
	server.slow_ms = 200;
	measure(1);
	cr_assert_eq(agent_link_to_local_ns(agent, NS_PER_S, NULL), before);
	cr_assert_eq(check_mapping(), uncertainty);
}

static void on_measured(const struct err *err, void *data)
{
	cr_assert_null(err);
	*(bool *)data = true;
}

/* In the background of a run; and given up when the agent is another one, of whose clock nothing is known. */
Test(agent_clock, in_the_background)
{
	bool done = false, never = false;
	uint64_t end = now_ns() + 20 * NS_PER_S;

	measure(1);
	server.ahead_ns = 7 * (int64_t)NS_PER_S;
	server.slow_ms = 50;
	cr_assert_eq(agent_link_clock_start(agent, 2, on_measured, &never, NULL), 0);
	agent_link_move(agent, "http://127.0.0.1:1");
	agent_link_move(agent, url);
	cr_assert_eq(agent_link_clock_start(agent, 2, on_measured, &done, NULL), 0);
	while (!done && now_ns() < end)
		cr_assert_geq(sd_event_run(event, 100000), 0);
	cr_assert(done && !never);
	check_mapping();
}
