/* The client against servers that do not behave. Each test's server is a thread that serves one
 * connection after another by a script. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "http/http_client.h"

struct server {
	int fd;
	uint16_t port;
	pthread_t thread;
	void (*serve)(int fd, unsigned nth);
	char url[128];
};

static struct server server;
static sd_event *event;
static struct http_client *client;

static void *server_run(void *data)
{
	struct server *s = data;

	for (unsigned nth = 0;; nth++) {
		char request[4096];
		size_t n = 0;
		ssize_t k;
		int fd = accept(s->fd, NULL, NULL);

		if (fd < 0)
			return NULL;
		while (n < sizeof(request) - 1 && (k = read(fd, request + n, sizeof(request) - 1 - n)) > 0) {
			n += (size_t)k;
			request[n] = 0;
			if (strstr(request, "\r\n\r\n"))
				break;
		}
		s->serve(fd, nth);
		close(fd);
	}
}

static void set_up(void)
{
	_cleanup_err_ struct err *err = NULL;

	signal(SIGPIPE, SIG_IGN);
	cr_assert_geq(sd_event_new(&event), 0);
	cr_assert_eq(http_client_new(event, &client, &err), 0, "%s", err_text(err));
}

static void serve(void (*how)(int fd, unsigned nth))
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);

	server.serve = how;
	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(server.fd, 8), 0);
	cr_assert_eq(getsockname(server.fd, (struct sockaddr *)&a, &length), 0);
	server.port = ntohs(a.sin_port);
	snprintf(server.url, sizeof(server.url), "http://127.0.0.1:%u/x", server.port);
	cr_assert_eq(pthread_create(&server.thread, NULL, server_run, &server), 0);
}

static void tear_down(void)
{
	http_client_free(client);
	sd_event_unref(event);
	if (server.port) {
		shutdown(server.fd, SHUT_RDWR);
		pthread_join(server.thread, NULL);
		close(server.fd);
	}
}

TestSuite(http_client, .init = set_up, .fini = tear_down, .timeout = 50);

static void say(int fd, const char *text)
{
	(void)!write(fd, text, strlen(text));
}

static int ask(cJSON **ret, int *ret_status, struct err **err)
{
	const struct http_request r = {.method = "GET", .url = server.url, .timeout_ms = 2000};

	return http_wait(client, &r, ret_status, ret, err);
}

static void fails(int code, const char *words)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *json = NULL;
	int status = 0, r = ask(&json, &status, &err);

	cr_assert_eq(r, code, "%d: %s", r, err_text(err));
	cr_assert(strstr(err_text(err), words), "%s", err_text(err));
	cr_assert_null(json);
}

static void serve_json(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
}

Test(http_client, an_answer)
{
	_cleanup_json_ cJSON *json = NULL;
	int status = 0;

	serve(serve_json);
	cr_assert_eq(ask(&json, &status, NULL), 0);
	cr_assert_eq(status, 200);
	cr_assert_eq(json_get(json, "a")->valueint, 1);
}

static void serve_empty(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

Test(http_client, empty)
{
	_cleanup_json_ cJSON *json = NULL;

	serve(serve_empty);
	cr_assert_eq(ask(&json, NULL, NULL), 0);
	cr_assert_null(json);
}

static void serve_close(int fd, unsigned nth)
{
	(void)fd;
	(void)nth;
}

Test(http_client, closes)
{
	serve(serve_close);
	fails(-ECONNRESET, "GET http://127.0.0.1:");
}

static void serve_garbage(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "220 mail ready\r\n\r\n\xff\xfe");
}

Test(http_client, no_http)
{
	serve(serve_garbage);
	fails(-ECONNRESET, "GET http://127.0.0.1:");
}

static void serve_half(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":1}");
}

Test(http_client, half_an_answer)
{
	serve(serve_half);
	fails(-ECONNRESET, "GET http://127.0.0.1:");
}

static void serve_text(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

Test(http_client, no_json)
{
	serve(serve_text);
	fails(-EINVAL, "GET http://127.0.0.1:");
}

static void serve_slow(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{");
	for (int i = 0; i < 60 && send(fd, " ", 1, MSG_NOSIGNAL) == 1; i++)
		usleep(50000);
}

/* Bytes that trickle do not move the limit. */
Test(http_client, slow)
{
	const struct http_request r = {.method = "GET", .url = server.url, .timeout_ms = 300};
	_cleanup_err_ struct err *err = NULL;
	uint64_t start;

	serve(serve_slow);
	start = now_ns();
	cr_assert_eq(http_wait(client, &r, NULL, NULL, &err), -ETIMEDOUT, "%s", err_text(err));
	cr_assert_lt(now_ns() - start, 2 * NS_PER_S);
}

static void serve_endless(int fd, unsigned nth)
{
	static char block[65536];

	(void)nth;
	memset(block, 'x', sizeof(block));
	say(fd, "HTTP/1.1 200 OK\r\n\r\n\"");
	while (write(fd, block, sizeof(block)) > 0)
		;
}

Test(http_client, endless)
{
	const struct http_request r = {.method = "GET", .url = server.url, .timeout_ms = 30000};
	_cleanup_err_ struct err *err = NULL;

	serve(serve_endless);
	cr_assert_eq(http_wait(client, &r, NULL, NULL, &err), -EFBIG, "%s", err_text(err));
	cr_assert(strstr(err_text(err), "longer than is allowed"), "%s", err_text(err));
}

static void serve_errors(int fd, unsigned nth)
{
	static const char body[] = "{\"error\": {\"code\": \"EBUSY\", \"status\": 409, \"message\": \"in use\"}}";
	char text[512];

	if (nth == 0)
		snprintf(text, sizeof(text), "HTTP/1.1 409 Conflict\r\nContent-Length: %zu\r\n\r\n%s",
			sizeof(body) - 1, body);
	else if (nth == 1)
		snprintf(text, sizeof(text), "HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\n<html>");
	else
		snprintf(text, sizeof(text), "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
	say(fd, text);
}

Test(http_client, error_bodies)
{
	serve(serve_errors);
	fails(-EBUSY, "in use");
	fails(-ENOENT, "");
	fails(-EIO, "");
}

Test(http_client, nobody_there)
{
	serve(serve_close);
	shutdown(server.fd, SHUT_RDWR);
	fails(-ECONNREFUSED, "GET http://127.0.0.1:");
}

/* Which is not what a server says of a thing that it does not have. No name has such a part, so nobody is asked. */
Test(http_client, a_name_that_is_nobodys)
{
	snprintf(server.url, sizeof(server.url), "http://%064d.invalid/x", 1);
	fails(-EHOSTUNREACH, "GET http://0000");
}

static void serve_redirect(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
}

/* Nobody is followed elsewhere, and to no other protocol. */
Test(http_client, redirects_and_protocols)
{
	_cleanup_json_ cJSON *json = NULL;
	int status = 0;

	serve(serve_redirect);
	cr_assert_eq(ask(&json, &status, NULL), 0);
	cr_assert_eq(status, 302);
	cr_assert_null(json);
	strcpy(server.url, "file:///etc/hostname");
	fails(-ECONNRESET, "file:///etc/hostname");
}

/* ---- streams ---- */

struct stream {
	struct http_call *call;
	char lines[256];
	size_t n, longest;
	bool ended, stop_at_line;
	int error;
};

static void on_line(const char *line, size_t length, void *data)
{
	struct stream *s = data;

	cr_assert_eq(strlen(line), length);
	s->n++;
	s->longest = length > s->longest ? length : s->longest;
	if (strlen(s->lines) + length + 2 < sizeof(s->lines))
		strcat(strcat(s->lines, line), "|");
	if (s->stop_at_line) {
		http_cancel(s->call);
		s->call = NULL;
	}
}

static void on_end(const struct http_answer *a, void *data)
{
	struct stream *s = data;

	s->ended = true;
	s->error = a->error;
}

static void follow(struct stream *s)
{
	const struct http_request r = {.method = "GET", .url = server.url, .timeout_ms = UINT64_MAX,
		.line = on_line};

	cr_assert_eq(http_start(client, &r, on_end, s, &s->call, NULL), 0);
	for (int i = 0; i < 100 && !s->ended; i++)
		sd_event_run(event, 20000);
}

static void serve_lines(int fd, unsigned nth)
{
	(void)nth;
	say(fd, "HTTP/1.1 200 OK\r\n\r\none\ntw");
	usleep(20000);
	say(fd, "o\n\n\nth");
	usleep(20000);
	say(fd, "ree\nfour");
}

Test(http_client, lines)
{
	struct stream s = {0};

	serve(serve_lines);
	follow(&s);
	cr_assert(s.ended);
	cr_assert_eq(s.error, 0);
	cr_assert_str_eq(s.lines, "one|two|three|", "a line without its end is none");
}

Test(http_client, a_stream_is_left)
{
	struct stream s = {.stop_at_line = true};

	serve(serve_lines);
	follow(&s);
	cr_assert_str_eq(s.lines, "one|");
	cr_assert(!s.ended, "cancelled ends without its callback");
}

Test(http_client, an_endless_line)
{
	struct stream s = {0};

	serve(serve_endless);
	follow(&s);
	cr_assert(s.ended);
	cr_assert_eq(s.error, -EFBIG);
	cr_assert_eq(s.n, 0);
}

/* Calls under way when the client ends: no callback, nothing left. */
Test(http_client, ends_with_calls)
{
	struct stream s = {0};
	const struct http_request r = {.method = "POST", .url = server.url, .body = "{}"};

	serve(serve_slow);
	for (int i = 0; i < 5; i++)
		cr_assert_eq(http_start(client, &r, on_end, &s, &s.call, NULL), 0);
	http_cancel(s.call);
	sd_event_run(event, 50000);
	http_client_free(client);
	client = NULL;
	cr_assert(!s.ended);
}

static void never(int fd, unsigned nth)
{
	char c;

	(void)nth;
	(void)!read(fd, &c, 1);		/* until the client has gone */
}

/* Who is in a hurry waits for nothing, of whatever kind, but takes what has come. */
Test(http_client, gives_up)
{
	_cleanup_err_ struct err *err = NULL;
	struct http_request r = {.method = "GET", .url = server.url, .timeout_ms = 60000};
	uint64_t start = now_ns();

	serve(never);
	http_client_give_up_at(client, start + 200 * NS_PER_MS);
	cr_assert_eq(http_wait(client, &r, NULL, NULL, &err), -ECANCELED);
	cr_assert(strstr(err_text(err), "interrupted"), "%s", err_text(err));
	cr_assert_geq(now_ns() - start, 200 * NS_PER_MS);
	cr_assert_lt(now_ns() - start, 30 * NS_PER_S);
	/* The time has come and gone. */
	start = now_ns();
	cr_assert_eq(http_wait(client, &r, NULL, NULL, NULL), -ECANCELED);
	cr_assert_lt(now_ns() - start, 30 * NS_PER_S);
}
