#include "server.h"

TestSuite(kube_request, .init = server_set_up, .fini = server_tear_down, .timeout = 60);

static void serve_pod(int fd, unsigned nth, const char *request)
{
	(void)nth;
	(void)request;
	answer(fd, "200 OK", "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}");
}

Test(kube_request, get)
{
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_err_ struct err *err = NULL;

	server_serve(serve_pod);
	cr_assert_eq(kube_get(kube, "/api/v1/namespaces/x/pods/a", &json, &err), 0, "%s", err_text(err));
	cr_assert_str_eq(kube_name(json), "a");
	cr_assert_str_eq(server.requests, "GET /api/v1/namespaces/x/pods/a HTTP/1.1\n");
}

static void serve_refusals(int fd, unsigned nth, const char *request)
{
	static const char *const answers[][2] = {
		{"401 Unauthorized", "{\"kind\":\"Status\",\"message\":\"Unauthorized\"}"},
		{"403 Forbidden", "{\"kind\":\"Status\",\"message\":\"pods is forbidden: User \\\"u\\\"\"}"},
		{"404 Not Found", "{\"kind\":\"Status\",\"message\":\"pods \\\"a\\\" not found\"}"},
		{"409 Conflict", "{\"kind\":\"Status\",\"message\":\"already exists\"}"},
		{"410 Gone", "{\"kind\":\"Status\",\"message\":\"too old\"}"},
		{"422 Unprocessable", "{\"kind\":\"Status\",\"message\":\"is invalid\"}"},
		{"500 Oops", "<html>no json</html>"},
		{"302 Found", "{}"},
		{"200 OK", "no json"},
	};

	(void)request;
	answer(fd, answers[nth][0], answers[nth][1]);
}

Test(kube_request, refusals_have_the_servers_words)
{
	static const struct {
		int code;
		const char *words;
	} expected[] = {
		{-EACCES, "Unauthorized"}, {-EPERM, "pods is forbidden: User \"u\""},
		{-ENOENT, "pods \"a\" not found"}, {-EEXIST, "already exists"}, {-ESTALE, "too old"},
		{-EINVAL, "is invalid"}, {-EIO, "HTTP 500"}, {-EPROTO, "elsewhere"},
		{-EINVAL, "Kubernetes API http://127.0.0.1"},
	};

	server_serve(serve_refusals);
	for (size_t i = 0; i < ELEMENTS(expected); i++) {
		_cleanup_err_ struct err *err = NULL;
		cJSON *json = NULL;
		int r = kube_get(kube, "/api/v1/pods/a", &json, &err);

		cr_expect_eq(r, expected[i].code, "%zu: %d %s", i, r, err_text(err));
		cr_expect(strstr(err_text(err), expected[i].words), "%zu: %s", i, err_text(err));
		cr_expect_null(json);
	}
}

static char seen[4096];

static void serve_seen(int fd, unsigned nth, const char *request)
{
	(void)nth;
	snprintf(seen, sizeof(seen), "%s", request);
	answer(fd, "200 OK", "{}");
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
}

/* A token that was replaced under the same name is the one that goes out. (http:// here: the rule
 * against it is the configuration's, not the request's.) */
Test(kube_request, token_is_read_again)
{
	char path[] = "/tmp/pj-kube-token-XXXXXX";
	struct kube_config *c;

	close(mkstemp(path));
	server_serve(serve_seen);
	kube_free(kube);
	c = server_config();
	c->token_path = strdup(path);
	cr_assert_eq(kube_new(client, c, &kube, NULL), 0);
	write_file(path, "first\n");
	cr_assert_eq(kube_get(kube, "/version", NULL, NULL), 0);
	cr_assert(strstr(seen, "Authorization: Bearer first\r\n"), "%s", seen);
	write_file(path, "second");
	cr_assert_eq(kube_get(kube, "/version", NULL, NULL), 0);
	cr_assert(strstr(seen, "Authorization: Bearer second\r\n"), "%s", seen);
	write_file(path, "two\nlines");
	cr_assert_eq(kube_get(kube, "/version", NULL, NULL), -EINVAL);
	unlink(path);
	cr_assert_eq(kube_get(kube, "/version", NULL, NULL), -ENOENT);
}

Test(kube_request, methods_and_bodies)
{
	_cleanup_json_ cJSON *body = json_object();

	json_add_string(body, "a", "b");
	server_serve(serve_seen);
	cr_assert_eq(kube_send(kube, "PATCH", "/api/v1/x", body, NULL, NULL), 0);
	cr_assert(strstr(seen, "PATCH /api/v1/x HTTP/1.1\r\n"), "%s", seen);
	cr_assert(strstr(seen, "application/merge-patch+json"), "%s", seen);
	cr_assert(strstr(seen, "\r\n\r\n{\"a\":\"b\"}"), "%s", seen);
	cr_assert_eq(kube_send(kube, "PUT", "/api/v1/x", body, NULL, NULL), 0);
	cr_assert(strstr(seen, "Content-Type: application/json"), "%s", seen);
	cr_assert_eq(kube_send(kube, "DELETE", "/api/v1/x", NULL, NULL, NULL), 0);
	cr_assert(strstr(seen, "DELETE /api/v1/x HTTP/1.1\r\n"), "%s", seen);
}

/* ---- lists ---- */

static void serve_pages(int fd, unsigned nth, const char *request)
{
	static const char *const pages[] = {
		"{\"metadata\":{\"resourceVersion\":\"5\",\"continue\":\"t/1\"},\"items\":[{\"metadata\":{\"name\":\"a\"}}]}",
		"{\"metadata\":{\"resourceVersion\":\"5\",\"continue\":\"t2\"},\"items\":null}",
		"{\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[{\"metadata\":{\"name\":\"b\"}}]}",
	};

	(void)request;
	answer(fd, "200 OK", pages[nth]);
}

Test(kube_request, pages)
{
	_cleanup_json_ cJSON *items = NULL;
	_cleanup_err_ struct err *err = NULL;

	server_serve(serve_pages);
	cr_assert_eq(kube_list(kube, "/api/v1/pods?labelSelector=x", &items, &err), 0, "%s",
		err_text(err));
	cr_assert_eq(cJSON_GetArraySize(items), 2);
	cr_assert_str_eq(kube_name(cJSON_GetArrayItem(items, 1)), "b");
	cr_assert_str_eq(server.requests,
		"GET /api/v1/pods?labelSelector=x&limit=500 HTTP/1.1\n"
		"GET /api/v1/pods?labelSelector=x&limit=500&continue=t%2F1 HTTP/1.1\n"
		"GET /api/v1/pods?labelSelector=x&limit=500&continue=t2 HTTP/1.1\n");
}

static void serve_expired(int fd, unsigned nth, const char *request)
{
	(void)request;
	if (nth == 0)
		answer(fd, "200 OK",
			"{\"metadata\":{\"continue\":\"t\"},\"items\":[{\"metadata\":{\"name\":\"a\"}}]}");
	else if (nth == 1)
		answer(fd, "410 Gone", "{\"message\":\"the token expired\"}");
	else
		answer(fd, "200 OK",
			"{\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"a\"}},{\"metadata\":{\"name\":\"b\"}}]}");
}

/* A snapshot that is gone before its last page: the list is read once more, whole. */
Test(kube_request, pages_that_expire)
{
	_cleanup_json_ cJSON *items = NULL;

	server_serve(serve_expired);
	cr_assert_eq(kube_list(kube, "/api/v1/pods", &items, NULL), 0);
	cr_assert_eq(cJSON_GetArraySize(items), 2);
	cr_assert(strstr(server.requests, "limit=0"), "%s", server.requests);
}

static void serve_no_list(int fd, unsigned nth, const char *request)
{
	(void)request;
	answer(fd, nth ? "403 Forbidden" : "200 OK", nth ? "{\"message\":\"no\"}" : "{\"items\":{}}");
}

Test(kube_request, no_list)
{
	cJSON *items = NULL;

	server_serve(serve_no_list);
	cr_assert_eq(kube_list(kube, "/api/v1/pods", &items, NULL), -EPROTO);
	cr_assert_eq(kube_list(kube, "/api/v1/pods", &items, NULL), -EPERM);
	cr_assert_null(items);
}

/* ---- calls that are given up ---- */

static void serve_never(int fd, unsigned nth, const char *request)
{
	char byte;

	(void)nth;
	(void)request;
	(void)!read(fd, &byte, 1);
}

static void never_called(int r, const cJSON *json, const struct err *e, void *data)
{
	(void)r;
	(void)json;
	(void)e;
	(void)data;
	cr_assert_fail("a cancelled call ended with its callback");
}

Test(kube_request, cancelled)
{
	struct kube_call *call = NULL;

	server_serve(serve_never);
	cr_assert_eq(kube_start(kube, "GET", "/a", NULL, 0, never_called, NULL, &call, NULL), 0);
	cr_assert_eq(kube_start(kube, "GET", "/b", NULL, 0, never_called, NULL, NULL, NULL), 0);
	sd_event_run(event, 20000);
	kube_cancel(call);
	sd_event_run(event, 20000);
	kube_free(kube);
	kube = NULL;
	sd_event_run(event, 20000);
}

static bool ended;
static int ended_as;

static void note_end(int r, const cJSON *json, const struct err *e, void *data)
{
	(void)json;
	(void)e;
	(void)data;
	ended = true;
	ended_as = r;
	/* From its own callback everything may be freed. */
	kube_free(kube);
	kube = NULL;
}

Test(kube_request, freed_from_a_callback)
{
	server_serve(serve_never);
	cr_assert_eq(kube_start(kube, "GET", "/a", NULL, 50, note_end, NULL, NULL, NULL), 0);
	LOOP_UNTIL(ended);
	cr_assert_eq(ended_as, -ETIMEDOUT);
}
