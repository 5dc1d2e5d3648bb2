#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/durable.h"
#include "kube/config_internal.h"
#include "kube/kube_internal.h"

#define CONNECT_MS 3000
#define CALL_MS 5000

struct kube_call {
	struct kube *kube;
	struct kube_call *prev, *next;
	struct http_call *http;
	kube_done done;
	void *data;
};

int kube_new(struct http_client *http, struct kube_config *config, struct kube **ret,
	struct err **err)
{
	struct kube *k = calloc(1, sizeof(*k));

	if (!k) {
		kube_config_free(config);
		return err_set(err, -ENOMEM, "out of memory");
	}
	k->http = http;
	k->config = config;
	*ret = k;
	return 0;
}

static void call_unlink(struct kube_call *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->kube->calls = c->next;
	if (c->next)
		c->next->prev = c->prev;
}

void kube_cancel(struct kube_call *call)
{
	if (!call)
		return;
	http_cancel(call->http);
	call_unlink(call);
	free(call);
}

void kube_free(struct kube *k)
{
	if (!k)
		return;
	while (k->watches)
		kube_watch_stop(k->watches);
	while (k->listers)
		kube_list_cancel(k->listers);
	while (k->calls)
		kube_cancel(k->calls);
	kube_config_free(k->config);
	free(k);
}

const struct kube_config *kube_config_of(const struct kube *k)
{
	return k->config;
}

char *kube_path_with(const char *path, const char *query)
{
	char *out = NULL;

	if (asprintf(&out, "%s%c%s", path, strchr(path, '?') ? '&' : '?', query) < 0)
		abort();
	return out;
}

int kube_status_errno(int code)
{
	switch (code) {
	case 400:
	case 422:
		return -EINVAL;
	case 401:
		return -EACCES;
	case 403:
		return -EPERM;
	case 404:
		return -ENOENT;
	case 409:
		return -EEXIST;
	case 410:
		return -ESTALE;
	case 408:
	case 504:
		return -ETIMEDOUT;
	case 429:
	case 503:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

/* Service-account tokens are replaced under the same name (kubelet), so it is read each time. */
int kube_token_read(const char *path, char **ret, struct err **err)
{
	_cleanup_free_ char *token = NULL;
	size_t length = 0, n;
	int r = file_read(AT_FDCWD, path, KUBE_FILE_MAX, &token, &length, err);

	if (r < 0)
		return err_wrap(err, r, "token");
	n = strcspn(token, "\r\n");
	if (!n || token[n + strspn(token + n, "\r\n \t")]) {
		explicit_bzero(token, length);
		return err_set(err, -EINVAL, "%s holds no token", path);
	}
	token[n] = 0;
	*ret = steal_ptr(token);
	return 0;
}

int kube_request_start(struct kube *k, const char *method, const char *path, const cJSON *body,
	uint64_t timeout_ms, void (*line)(const char *line, size_t length, void *data),
	http_done done, void *data, struct http_call **ret_call, struct err **err)
{
	_cleanup_free_ char *url = NULL, *token = NULL, *text = body ? json_print(body) : NULL;
	const struct kube_config *c = k->config;
	struct http_request request = {
		.method = method,
		.tls = strncmp(c->server, "https:", 6) == 0 ? &c->tls : NULL,
		.body = text,
		.content_type = strcmp(method, "PATCH") == 0 ? "application/merge-patch+json" : NULL,
		.connect_timeout_ms = CONNECT_MS,
		.timeout_ms = timeout_ms ? timeout_ms : CALL_MS,
		.line = line,
	};
	int r = 0;

	if (asprintf(&url, "%s%s", c->server, path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	request.url = url;
	if (c->token_path)
		r = kube_token_read(c->token_path, &token, err);
	request.token = token ? token : c->token;
	if (r >= 0)
		r = http_start(k->http, &request, done, data, ret_call, err);
	if (token)
		explicit_bzero(token, strlen(token));
	return r;
}

int kube_answer_read(const struct kube *k, const struct http_answer *a, cJSON **ret_json,
	struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	const char *words;
	int r = 0;

	if (a->error)
		return err_set(err, a->error, "Kubernetes API %s: %s", k->config->server,
			a->error_text ? a->error_text : "no answer");
	if (a->length)
		r = json_parse(a->body, a->length, &json, a->status >= 400 ? NULL : err);
	if (a->status >= 400) {
		words = kube_text(json, "message");
		if (words && *words)
			return err_set(err, kube_status_errno(a->status), "Kubernetes API: %s", words);
		return err_set(err, kube_status_errno(a->status), "Kubernetes API %s: HTTP %d%s",
			k->config->server, a->status,
			a->status == 401 ? ": it does not know our credentials" : "");
	}
	if (r >= 0 && a->status >= 300)
		r = err_set(err, -EPROTO, "it sends us elsewhere (HTTP %d)", a->status);
	if (r < 0)
		return err_wrap(err, r, "Kubernetes API %s", k->config->server);
	if (ret_json)
		*ret_json = steal_ptr(json);
	return 0;
}

static void on_answer(const struct http_answer *a, void *data)
{
	struct kube_call *c = data, call = *c;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *json = NULL;
	int r = kube_answer_read(c->kube, a, &json, &err);

	call_unlink(c);
	free(c);
	call.done(r, json, err, call.data);
}

int kube_start(struct kube *k, const char *method, const char *path, const cJSON *body,
	uint64_t timeout_ms, kube_done done, void *data, struct kube_call **ret_call, struct err **err)
{
	struct kube_call *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	*c = (struct kube_call){.kube = k, .next = k->calls, .done = done, .data = data};
	if (k->calls)
		k->calls->prev = c;
	k->calls = c;
	r = kube_request_start(k, method, path, body, timeout_ms, NULL, on_answer, c, &c->http, err);
	if (r < 0) {
		call_unlink(c);
		free(c);
		return r;
	}
	if (ret_call)
		*ret_call = c;
	return 0;
}

int kube_loop_until(struct kube *k, const bool *done, uint64_t limit_ns, struct err **err)
{
	uint64_t end = now_ns() + limit_ns;

	while (!*done) {
		int r;

		if (now_ns() >= end)
			return err_set(err, -ETIMEDOUT, "Kubernetes API %s: no answer in time",
				k->config->server);
		r = http_client_turn(k->http, end, err);
		if (r < 0 && !*done)
			return r;
	}
	return 0;
}

struct waiting {
	bool done;
	int r;
	cJSON *json;
	struct err *err;
};

static void on_waited(int r, const cJSON *json, const struct err *e, void *data)
{
	struct waiting *w = data;

	w->done = true;
	w->r = r;
	w->json = json ? cJSON_Duplicate(json, true) : NULL;
	if (r < 0)
		err_set(&w->err, r, "%s", err_text(e));
}

int kube_send(struct kube *k, const char *method, const char *path, const cJSON *body,
	cJSON **ret_json, struct err **err)
{
	struct waiting w = {0};
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_err_ struct err *cause = NULL;
	struct kube_call *call = NULL;
	int r = kube_start(k, method, path, body, CALL_MS, on_waited, &w, &call, err);

	if (r < 0)
		return r;
	r = kube_loop_until(k, &w.done, (CALL_MS + 1000) * NS_PER_MS, err);
	if (!w.done) {
		kube_cancel(call);
		return r;
	}
	json = w.json;
	cause = w.err;
	if (w.r < 0)
		return err_set(err, w.r, "%s", err_text(cause));
	if (ret_json)
		*ret_json = steal_ptr(json);
	return 0;
}

int kube_get(struct kube *k, const char *path, cJSON **ret_json, struct err **err)
{
	return kube_send(k, "GET", path, NULL, ret_json, err);
}
