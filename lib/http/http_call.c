/* One request and its answer. */
#include "http_internal.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/clock.h"

#define BODY_MAX (16UL << 20)
#define LINE_MAX_BYTES (4UL << 20)
#define STREAM_DEAD_MS 10000

void call_free(struct http_call *call)
{
	if (call->easy) {
		curl_multi_remove_handle(call->client->multi, call->easy);
		curl_easy_cleanup(call->easy);
	}
	if (call->prev)
		call->prev->next = call->next;
	else if (call->client->calls == call)
		call->client->calls = call->next;
	if (call->next)
		call->next->prev = call->prev;
	curl_slist_free_all(call->headers);
	curl_slist_free_all(call->connect_to);
	free(call->body_sent);
	free(call->text);
	free(call);
}

static int curl_error_to_errno(CURLcode code)
{
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return -ECONNREFUSED;
	case CURLE_COULDNT_RESOLVE_HOST:
		/* Not -ENOENT: that is what a server says of a thing that it does not have. */
		return -EHOSTUNREACH;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CONNECT_ERROR:
		return -EACCES;
	default:
		return -ECONNRESET;
	}
}

void call_finish(struct http_call *call, CURLcode code)
{
	long status = 0, os_error = 0;
	struct http_answer a = {.sent_ns = call->sent_ns, .done_ns = now_ns(), .body = ""};

	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (call->too_long) {
		a.error = -EFBIG;
		a.error_text = "the answer is longer than is allowed";
	} else if (code != CURLE_OK) {
		a.error = curl_error_to_errno(code);
		a.error_text = call->error[0] ? call->error : curl_easy_strerror(code);
		/* curl speaks of the host and the port that the URL must have. */
		if (call->unix_socket && code == CURLE_COULDNT_CONNECT) {
			curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &os_error);
			a.error_text = os_error ? strerror((int)os_error) : "nobody listens there";
		}
	} else {
		a.status = (int)status;
		if (!call->line && call->text) {
			a.body = call->text;
			a.length = call->length;
		}
	}
	call->in_callback = true;
	if (call->done && !call->cancelled)
		call->done(&a, call->data);
	call_free(call);
}

static bool call_append(struct http_call *call, const char *p, size_t n, size_t max)
{
	if (call->length + n > max) {
		call->too_long = true;
		return false;
	}
	if (call->length + n + 1 > call->capacity) {
		size_t capacity = (call->length + n + 1) * 2;
		char *text = realloc(call->text, capacity);

		if (!text)
			return false;
		call->text = text;
		call->capacity = capacity;
	}
	memcpy(call->text + call->length, p, n);
	call->length += n;
	call->text[call->length] = 0;
	return true;
}

static size_t stream_lines(struct http_call *call, const char *p, size_t n)
{
	const char *end;
	size_t left = n;

	while ((end = memchr(p, '\n', left))) {
		size_t part = (size_t)(end - p);

		if (!call_append(call, p, part, LINE_MAX_BYTES))
			return 0;
		if (call->length)
			call->line(call->text, call->length, call->data);
		if (call->cancelled)
			return 0;
		call->length = 0;
		left -= part + 1;
		p = end + 1;
	}
	return call_append(call, p, left, LINE_MAX_BYTES) ? n : 0;
}

static size_t on_body(char *p, size_t size, size_t count, void *data)
{
	struct http_call *call = data;
	size_t n = size * count;
	long status = 0;

	if (call->cancelled)
		return 0;
	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (call->line && status < 400) {
		size_t taken;

		call->in_callback = true;
		taken = stream_lines(call, p, n);
		call->in_callback = false;
		return taken;
	}
	return call_append(call, p, n, BODY_MAX) ? n : 0;
}

static int header_add(struct http_call *call, const char *name, const char *value)
{
	_cleanup_free_ char *line = NULL;
	struct curl_slist *more;

	if (asprintf(&line, "%s: %s", name, value) < 0)
		return -ENOMEM;
	more = curl_slist_append(call->headers, line);
	explicit_bzero(line, strlen(line));
	if (!more)
		return -ENOMEM;
	call->headers = more;
	return 0;
}

/* The URL names who must answer, and curl connects to the address: so TLS (the SNI and the check of
 * the certificate) goes by the name. */
static int set_server_name(struct http_call *call, const char *url, const char *name)
{
	_cleanup_free_ char *named = NULL, *to = NULL;
	const char *scheme = strstr(url, "://"), *host = scheme ? scheme + 3 : url;
	size_t host_length = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
	const char *rest = host + host_length;

	if (asprintf(&named, "%.*s%s%s", (int)(host - url), url, name, rest) < 0 ||
		asprintf(&to, "::%.*s:", (int)host_length, host) < 0)
		return -ENOMEM;
	call->connect_to = curl_slist_append(NULL, to);
	if (!call->connect_to)
		return -ENOMEM;
	curl_easy_setopt(call->easy, CURLOPT_URL, named);
	curl_easy_setopt(call->easy, CURLOPT_CONNECT_TO, call->connect_to);
	return 0;
}

static int set_token(struct http_call *call, const char *token)
{
	_cleanup_free_ char *value = NULL;
	int r;

	if (asprintf(&value, "Bearer %s", token) < 0)
		return -ENOMEM;
	r = header_add(call, "Authorization", value);
	explicit_bzero(value, strlen(value));
	return r;
}

static int set_body(struct http_call *call, const struct http_request *r)
{
	if (!r->body && strcmp(r->method, "POST") != 0)
		return 0;
	call->body_sent = strdup(r->body ? r->body : "{}");
	if (!call->body_sent)
		return -ENOMEM;
	curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body_sent);
	return header_add(call, "Content-Type",
		r->content_type ? r->content_type : "application/json");
}

static int set_tls(struct http_call *call, const struct http_request *r)
{
	const struct http_tls *tls = r->tls;

	if (!tls)
		return 0;
	if (tls->ca) {
		curl_easy_setopt(call->easy, CURLOPT_CAINFO, tls->ca);
		/* Else the system's folder counts beside it: all the world's CAs, and all are read each time. */
		curl_easy_setopt(call->easy, CURLOPT_CAPATH, NULL);
	}
	if (tls->cert)
		curl_easy_setopt(call->easy, CURLOPT_SSLCERT, tls->cert);
	if (tls->key)
		curl_easy_setopt(call->easy, CURLOPT_SSLKEY, tls->key);
	return tls->server_name ? set_server_name(call, r->url, tls->server_name) : 0;
}

/* A stream is silent for long: that its server is gone, only the kernel's probes can tell (tcp(7)). */
static int curl_stream_socket(void *data, curl_socket_t fd, curlsocktype purpose)
{
	const unsigned limit_ms = STREAM_DEAD_MS;
	const int on = 1, idle_s = 3, interval_s = 1;

	(void)data;
	(void)purpose;
	/* Of a unix socket none of these is known, and none is needed. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit_ms, sizeof(limit_ms));
	return CURL_SOCKOPT_OK;
}

static int call_set_up(struct http_call *call, const struct http_request *r)
{
	CURL *e = call->easy;
	long timeout = r->timeout_ms == UINT64_MAX ? 0 :
		       r->timeout_ms		       ? (long)r->timeout_ms :
							 5000;
	int code;

	curl_easy_setopt(e, CURLOPT_URL, r->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_PRIVATE, call);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, curl_socket_close);
	curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, call->client);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, call->error);
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, timeout);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
		r->connect_timeout_ms ? (long)r->connect_timeout_ms : 1000L);
	if (r->timeout_ms == UINT64_MAX) {
		curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, curl_stream_socket);
		/* Not one that was made without these. */
		curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
	}
	call->unix_socket = r->unix_socket;
	if (r->unix_socket)
		curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, r->unix_socket);
	code = set_tls(call, r);
	if (code >= 0 && r->token)
		code = set_token(call, r->token);
	if (code >= 0)
		code = set_body(call, r);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, call->headers);
	return code;
}

int http_start(struct http_client *c, const struct http_request *r, http_done done, void *data,
	struct http_call **ret_call, struct err **err)
{
	struct http_call *call = calloc(1, sizeof(*call));
	CURLMcode code;

	if (!call)
		return err_set(err, -ENOMEM, "out of memory");
	call->client = c;
	call->done = done;
	call->data = data;
	call->line = r->line;
	call->next = c->calls;
	if (c->calls)
		c->calls->prev = call;
	c->calls = call;
	call->easy = curl_easy_init();
	if (!call->easy || call_set_up(call, r) < 0) {
		call_free(call);
		return err_set(err, -ENOMEM, "out of memory");
	}
	call->sent_ns = now_ns();
	code = curl_multi_add_handle(c->multi, call->easy);
	if (code != CURLM_OK) {
		call_free(call);
		return err_set(err, -EIO, "%s %s: %s", r->method, r->url, curl_multi_strerror(code));
	}
	if (ret_call)
		*ret_call = call;
	return 0;
}

void http_cancel(struct http_call *call)
{
	if (!call)
		return;
	if (call->in_callback)
		call->cancelled = true;
	else
		call_free(call);
}
