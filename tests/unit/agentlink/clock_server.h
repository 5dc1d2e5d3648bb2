/* An agent's clock, told by a server whose clock and whose slowness the test sets. */
#pragma once

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

static void clock_set_up(void)
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

static void clock_tear_down(void)
{
	agent_link_free(agent);
	http_client_free(client);
	sd_event_unref(event);
	shutdown(server.fd, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.fd);
}

static void measure(unsigned rounds)
{
	struct agent_replies replies;
	_cleanup_err_ struct err *err = NULL;

	agent_ask_clocks(&agent, 1, rounds, &replies);
	cr_assert_eq(agent_replies_check(&replies, &err), 0, "%s", err_text(err));
	agent_replies_done(&replies);
}
