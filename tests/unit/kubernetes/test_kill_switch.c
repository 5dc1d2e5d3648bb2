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
	bool was = true;

	cr_assert_eq(kill_switch_set(kube, "pgjolt", false, NULL, &was, NULL), 0);
	cr_assert(!was);
	cr_assert_str_empty(method, "there was nothing to write");
	cr_assert_eq(kill_switch_set(kube, "pgjolt", true, "an \"incident\"", NULL, NULL), 0);
	cr_assert_str_eq(method, "POST");
	cr_assert(strstr(server.requests, "POST /api/v1/namespaces/pgjolt/configmaps HTTP"), "%s",
		server.requests);
	cr_assert(strstr(map, "\"reason\":\"an \\\"incident\\\"\""), "%s", map);
	cr_assert_eq(kill_switch_set(kube, "pgjolt", false, NULL, &was, NULL), 0);
	cr_assert(was);
	cr_assert_str_eq(method, "PATCH");
	cr_assert(strstr(map, "\"stop\":\"false\"") && strstr(map, "\"reason\":null"), "%s", map);
}

/* Whoever wrote it: what agents heed is locked. */
Test(kill_switch, was_on_as_agents_read_it)
{
	static const struct {
		const char *map;
		bool was;
	} cases[] = {
		{"{\"data\":{\"stop\":\"yes\"}}", true}, {"{\"data\":{\"stop\":\"TRUE\"}}", true},
		{"{\"data\":{\"stop\":\"ture\"}}", true}, {"{\"data\":{\"stop\":\"No\"}}", false},
		{"{\"data\":{\"stop\":\"\"}}", false}, {"{\"data\":{}}", false},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		bool was = !cases[i].was;

		strcpy(map, cases[i].map);
		cr_assert_eq(kill_switch_set(kube, "pgjolt", false, NULL, &was, NULL), 0);
		cr_expect_eq(was, cases[i].was, "%s", cases[i].map);
	}
}
