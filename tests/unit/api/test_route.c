#include <criterion/criterion.h>
#include <string.h>
#include "api/metrics.h"
#include "api/route.h"
#include "core/json.h"

static enum route_result find(const char *method, const char *path, const struct route **ret,
	char *id, char *allow)
{
	return route_find(method, path, ret, id, allow);
}

Test(route, finds_each_of_its_own)
{
	char id[ROUTE_ID_MAX + 1], allow[ROUTE_ALLOW_MAX], path[128];

	cr_assert_lt(routes_count, METRICS_ROUTES_MAX);
	for (unsigned i = 0; i < routes_count; i++) {
		const struct route *r = NULL;
		const char *hole = strstr(routes[i].path, "{id}");

		if (hole)
			snprintf(path, sizeof(path), "%.*sx-1%s", (int)(hole - routes[i].path),
				routes[i].path, hole + 4);
		else
			snprintf(path, sizeof(path), "%s", routes[i].path);
		cr_assert_eq(find(routes[i].method, path, &r, id, allow), ROUTE_FOUND, "%s", path);
		cr_assert_eq(r, &routes[i], "%s", path);
		cr_assert_str_eq(id, hole ? "x-1" : "");
		/* What changes something is a POST, and audited. */
		cr_assert_eq(strcmp(r->method, "POST") == 0, r->verb != NULL, "%s", path);
	}
}

Test(route, wrong_methods_and_paths)
{
	static const char *const none[] = {"", "/", "/v1", "/v1/", "/v1/node/", "/v1/nodes",
		"/V1/node", "/v1/experiments/", "/v1/experiments//fire", "/v1/experiments/x/",
		"/v1/experiments/x/fire/", "/v1/experiments/x/y", "//v1/node", "/v1/../v1/node"};
	char id[ROUTE_ID_MAX + 1], allow[ROUTE_ALLOW_MAX], path[128];
	const struct route *r = NULL;

	for (size_t i = 0; i < ELEMENTS(none); i++)
		cr_assert_eq(find("GET", none[i], &r, id, allow), ROUTE_UNKNOWN, "%s", none[i]);
	cr_assert_eq(find("DELETE", "/v1/experiments", &r, id, allow), ROUTE_WRONG_METHOD);
	cr_assert_str_eq(allow, "GET, HEAD, POST");
	cr_assert_eq(find("GET", "/v1/experiments/x/fire", &r, id, allow), ROUTE_WRONG_METHOD);
	cr_assert_str_eq(allow, "POST");
	cr_assert_eq(find("HEAD", "/v1/node", &r, id, allow), ROUTE_FOUND);
	cr_assert_eq(find("get", "/v1/node", &r, id, allow), ROUTE_WRONG_METHOD);
	snprintf(path, sizeof(path), "/v1/experiments/%064d", 1);
	cr_assert_eq(find("GET", path, &r, id, allow), ROUTE_FOUND);
	cr_assert_eq(strlen(id), 64);
	snprintf(path, sizeof(path), "/v1/experiments/%065d", 1);
	cr_assert_eq(find("GET", path, &r, id, allow), ROUTE_UNKNOWN);
}

Test(route, unknown_lists_all)
{
	_cleanup_json_ cJSON *o = route_unknown_to_json();

	cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(o, "routes")), (int)routes_count);
	cr_assert_eq(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "error"), "status")->valueint, 404);
}

Test(route, targets)
{
	static const char *const wrong[] = {"/%", "/%4", "/%zz", "/%4g", "/a%00b", "/a\tb", "/\x7f",
		"/\xc3\xa4", "/?after=%"};
	static const char *const right[] = {"/", "/v1/node", "/%41", "/v1/events?after=1&follow=true",
		"*", "/%c3%a4"};
	char longer[4096];

	for (size_t i = 0; i < ELEMENTS(wrong); i++)
		cr_assert_not_null(route_target_problem(wrong[i]), "%s", wrong[i]);
	for (size_t i = 0; i < ELEMENTS(right); i++)
		cr_assert_null(route_target_problem(right[i]), "%s", right[i]);
	memset(longer, 'a', sizeof(longer));
	longer[2048] = '\0';
	cr_assert_null(route_target_problem(longer));
	longer[2048] = 'a';
	longer[2049] = '\0';
	cr_assert_not_null(route_target_problem(longer));
}

Test(route, decoding)
{
	static const char *const cases[][2] = {{"", ""}, {"abc", "abc"}, {"%41%62", "Ab"},
		{"a%2Fb", "a/b"}, {"%", "%"}, {"%4", "%4"}, {"%zz%41", "%zzA"}, {"x%00y", "x%00y"},
		{"%25%34%31", "%41"}};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		char s[32];

		strcpy(s, cases[i][0]);
		cr_assert_eq(route_decode(s), strlen(cases[i][1]));
		cr_assert_str_eq(s, cases[i][1]);
	}
}
