/* An API server by script: a thread that reads one request a connection and has `serve` answer it. */
#pragma once

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "kube/kube.h"

struct server {
	int fd;
	char url[64];
	pthread_t thread;
	/* request: its head and body. */
	void (*serve)(int fd, unsigned nth, const char *request);
	char requests[16384];	/* first lines */
	bool running;
};

static struct server server;
static sd_event *event;
static struct http_client *client;
static struct kube *kube;

static void say(int fd, const char *text)
{
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* A whole answer. */
__attribute__((unused)) static void answer(int fd, const char *status, const char *body)
{
	char head[256];

	snprintf(head, sizeof(head),
		"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		"Connection: close\r\n\r\n",
		status, strlen(body));
	say(fd, head);
	say(fd, body);
}

static size_t request_length(const char *request)
{
	const char *end = strstr(request, "\r\n\r\n"), *length;

	if (!end)
		return SIZE_MAX;
	length = strcasestr(request, "Content-Length:");
	return (size_t)(end - request) + 4 +
	       (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
}

static void *server_run(void *data)
{
	struct server *s = data;

	for (unsigned nth = 0;; nth++) {
		static char request[65536];
		size_t n = 0;
		ssize_t k;
		int fd = accept(s->fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		request[0] = 0;
		while (n < request_length(request) && n < sizeof(request) - 1 &&
			(k = read(fd, request + n, sizeof(request) - 1 - n)) > 0)
			request[n += (size_t)k] = 0;
		if (strlen(s->requests) + 512 < sizeof(s->requests))
			snprintf(s->requests + strlen(s->requests), 512, "%.*s\n",
				(int)strcspn(request, "\r\n"), request);
		s->serve(fd, nth, request);
		shutdown(fd, SHUT_WR);
		close(fd);
	}
}

static void server_listen(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);

	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(server.fd, 16), 0);
	cr_assert_eq(getsockname(server.fd, (struct sockaddr *)&a, &length), 0);
	snprintf(server.url, sizeof(server.url), "http://127.0.0.1:%u", ntohs(a.sin_port));
}

static void server_set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(http_client_new(event, &client, NULL), 0);
	server_listen();
}

static struct kube_config *server_config(void)
{
	struct kube_config *c = calloc(1, sizeof(*c));

	c->server = strdup(server.url);
	c->source = strdup("test");
	c->default_namespace = strdup("default");
	for (size_t i = 0; i < ELEMENTS(c->fds); i++)
		c->fds[i] = -1;
	return c;
}

static void server_serve(void (*how)(int fd, unsigned nth, const char *request))
{
	server.serve = how;
	server.running = true;
	cr_assert_eq(pthread_create(&server.thread, NULL, server_run, &server), 0);
	cr_assert_eq(kube_new(client, server_config(), &kube, NULL), 0);
}

static void server_tear_down(void)
{
	kube_free(kube);
	http_client_free(client);
	sd_event_unref(event);
	if (server.running) {
		shutdown(server.fd, SHUT_RDWR);
		pthread_join(server.thread, NULL);
	}
	close(server.fd);
}

/* The loop until the condition holds, 20 s at most. */
#define LOOP_UNTIL(condition)                                                                       \
	do {                                                                                        \
		uint64_t loop_end = now_ns() + 20 * NS_PER_S;                                       \
		while (!(condition)) {                                                              \
			cr_assert_lt(now_ns(), loop_end, "never: %s\n%s", #condition,               \
				server.requests);                                                   \
			sd_event_run(event, 20000);                                                 \
		}                                                                                   \
	} while (0)
