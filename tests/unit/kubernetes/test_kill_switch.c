#include "unit/kube/server.h"

#include "kubernetes/kill_switch.h"

static char map[2048], method[8];

static void serve_map(int fd, unsigned nth, const char *request)
{
	(void)nth;
	if (strncmp(request, "GET", 3) == 0) {
		answer(fd, *map ? "200 OK" : "404 Not Found", *map ? map : "{\"message\":\"not found\"}");
		return;
	}
	snprintf(method, sizeof(method), "%.*s", (int)strcspn(request, " "), request);
	snprintf(map, sizeof(map), "%s", strstr(request, "\r\n\r\n") + 4);
	answer(fd, "200 OK", "{}");
}

static void set_up(void)
{
	server_set_up();
	server_serve(serve_map);
}

TestSuite(kill_switch, .init = set_up, .fini = server_tear_down, .timeout = 30);

Test(kill_switch, locked_and_unlocked)
{
	_cleanup_free_ char *reason = NULL;
	bool was = true;

	cr_assert_eq(kill_switch_get(kube, "pgjolt", &reason, NULL), 0);
	cr_assert_null(reason);
	cr_assert_eq(kill_switch_set(kube, "pgjolt", false, NULL, &was, NULL), 0);
	cr_assert(!was);
	cr_assert_str_empty(method, "there was nothing to write");
	cr_assert_eq(kill_switch_set(kube, "pgjolt", true, "an \"incident\"", NULL, NULL), 0);
	cr_assert_str_eq(method, "POST");
	cr_assert(strstr(server.requests, "POST /api/v1/namespaces/pgjolt/configmaps HTTP"), "%s",
		server.requests);
	cr_assert_eq(kill_switch_get(kube, "pgjolt", &reason, NULL), 0);
	cr_assert_str_eq(reason, "an \"incident\"");
	cr_assert_eq(kill_switch_set(kube, "pgjolt", false, NULL, &was, NULL), 0);
	cr_assert(was);
	cr_assert_str_eq(method, "PATCH");
	cr_assert(strstr(map, "\"stop\":\"false\"") && strstr(map, "\"reason\":null"), "%s", map);
}

Test(kill_switch, only_true_locks)
{
	char *reason = NULL;

	strcpy(map, "{\"data\":{\"stop\":\"yes\",\"reason\":\"x\"}}");
	cr_assert_eq(kill_switch_get(kube, "pgjolt", &reason, NULL), 0);
	cr_assert_null(reason);
	strcpy(map, "{\"data\":{\"stop\":\"true\"}}");
	cr_assert_eq(kill_switch_get(kube, "pgjolt", &reason, NULL), 0);
	cr_assert_str_eq(reason, "no reason given");
	free(reason);
}
