/* A claim from its first word to its end, with an API server that keeps one ConfigMap, and lists others before it. */
#include <limits.h>
#include "unit/kube/server.h"
#include "core/json.h"
#include "kubeapi/share.h"

static struct {
	char map[4096];	/* "" there is none */
	unsigned version, puts, posts, deletions;
	bool broken;
	bool endless;	/* each page has one after it */
	unsigned foreign, pages;
} api;

static uint64_t busy;
static char told[1024];
static struct shares *shares;
static cJSON *pod;

static void serve_map(int fd, const char *request)
{
	const char *body = strstr(request, "\r\n\r\n") + 4;
	_cleanup_json_ cJSON *map = NULL;
	_cleanup_free_ char *text = NULL;
	char version[16];

	snprintf(version, sizeof(version), "%u", ++api.version);
	cr_assert_eq(json_parse(body, strlen(body), &map, NULL), 0);
	cJSON_DeleteItemFromObject(cJSON_GetObjectItem(map, "metadata"), "resourceVersion");
	json_add_string(cJSON_GetObjectItem(map, "metadata"), "resourceVersion", version);
	text = json_print(map);
	snprintf(api.map, sizeof(api.map), "%s", text);
	answer(fd, "200 OK", api.map);
}

/* Made by somebody else: without a name of ours, or such that no agent makes. Some are far larger in JSON than they are. */
static void foreign_add(cJSON *items, unsigned i)
{
	size_t length = (i % 16 < 4 ? 5UL : 1UL) << 20;
	_cleanup_free_ char *text = malloc(length + 1);
	cJSON *map = json_object(), *metadata = json_object(), *data = json_object();
	char name[64];

	snprintf(name, sizeof(name), i % 2 ? "a-%03u" : "pgjolt-share-a.%03u", i);
	memset(text, 'x', length);
	text[length] = 0;
	json_add_string(metadata, "name", name);
	if (i % 4 == 2)
		json_add_item(metadata, "finalizers", json_array());
	json_add_string(data, "padding", text);
	if (i % 4)
		json_add_string(data, "claims", "{\"db/pg-0\": {\"node\": \"one\", \"until\": \"2100-01-01T00:00:00Z\"}}");
	json_add_item(map, "metadata", metadata);
	json_add_item(map, "data", data);
	json_append(items, map);
}

/* Tokens need to be encoded: "8/=". */
static void serve_list(int fd, const char *request)
{
	const char *limit = strstr(request, "limit="), *token = strstr(request, "continue=");
	unsigned from = token ? strtoul(token + 9, NULL, 10) : 0, most = limit ? strtoul(limit + 6, NULL, 10) : UINT_MAX;
	unsigned all = api.foreign + (*api.map != 0), i;
	_cleanup_json_ cJSON *list = json_object(), *map = NULL;
	cJSON *metadata = json_object(), *items = json_array();
	_cleanup_free_ char *text = NULL;
	char next[32];

	cr_assert(!token || strncmp(token + 9 + strspn(token + 9, "0123456789"), "%2F%3D", 6) == 0, "%s", request);
	api.pages++;
	json_add_item(list, "metadata", metadata);
	json_add_item(list, "items", items);
	for (i = from; i < all && i - from < most; i++)
		if (i < api.foreign)
			foreign_add(items, i);
		else if (json_parse(api.map, strlen(api.map), &map, NULL) == 0)
			json_append(items, steal_ptr(map));
	snprintf(next, sizeof(next), "%u/=", i);
	if (i < all || api.endless)
		json_add_string(metadata, "continue", next);
	text = json_print(list);
	answer(fd, "200 OK", text);
}

static void serve(int fd, unsigned nth, const char *request)
{
	(void)nth;
	if (api.broken) {
		answer(fd, "500 Broken", "{\"message\": \"out of order\"}");
	} else if (strncmp(request, "GET", 3) == 0 && strstr(request, "labelSelector")) {
		serve_list(fd, request);
	} else if (strncmp(request, "GET", 3) == 0) {
		answer(fd, *api.map ? "200 OK" : "404 Not Found", *api.map ? api.map : "{}");
	} else if (strncmp(request, "DELETE", 6) == 0) {
		api.deletions++;
		api.map[0] = 0;
		answer(fd, "200 OK", "{}");
	} else {
		api.posts += strncmp(request, "POST", 4) == 0;
		api.puts += strncmp(request, "PUT", 3) == 0;
		serve_map(fd, request);
	}
}

static uint64_t busy_ms(const char *instance, void *data)
{
	(void)data;
	return strcmp(instance, "db/pg-0") == 0 ? busy : 0;
}

static void tell_error(void *data, const char *words)
{
	(void)data;
	snprintf(told, sizeof(told), "%s", words);
}

static void up(void)
{
	static const char text[] = "{\"metadata\": {\"namespace\": \"db\"}}";
	struct shares_world world = {.namespace = "pgjolt", .node = "one", .busy_ms = busy_ms,
		.tell_error = tell_error};

	server_set_up();
	server_serve(serve);
	world.event = event;
	world.kube = kube;
	cr_assert_eq(json_parse(text, strlen(text), &pod, NULL), 0);
	cr_assert_eq(shares_new(&world, &shares, NULL), 0);
}

static void down(void)
{
	shares_free(shares);
	cJSON_Delete(pod);
	server_tear_down();
}

TestSuite(share_claims, .init = up, .fini = down);

struct outcome {
	bool done;
	struct share_claim *claim;
	int r;
	char words[512];
};

static void on_taken(struct share_claim *claim, int r, const char *words, void *data)
{
	struct outcome *o = data;

	o->done = true;
	o->claim = claim;
	o->r = r;
	snprintf(o->words, sizeof(o->words), "%s", words);
}

static struct outcome take(const char *instance, uint32_t ppm, uint64_t last_ms)
{
	struct share_ask ask = {.instance = instance, .cluster = "db/main", .pod = pod, .bound_ppm = ppm,
		.bound_words = "as said", .last_ms = last_ms};
	static struct outcome o;

	o = (struct outcome){0};
	shares_take(shares, &ask, on_taken, &o);
	LOOP_UNTIL(o.done);
	return o;
}

Test(share_claims, last_as_long_as_they_are_needed)
{
	struct outcome o = take("db/pg-0", 500000, 1000);
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(o.r, 0, "%s", o.words);
	cr_assert_not_null(o.claim);
	cr_expect_str_eq(o.words, "1 of 1 instances of cluster db/main under fault with it, at most 1 may be (as said)");
	cr_expect(shares_is_claimed(shares, "db/pg-0"));
	busy = 1000;
	shares_settle(shares, o.claim);
	cr_expect_not(shares_is_claimed(shares, "db/pg-0"));
	cr_expect_eq(shares_check_fire(shares, "db/pg-0", 1000, NULL), 0);
	cr_expect_eq(shares_check_fire(shares, "db/other", 10000000, NULL), 0);
	/* It waits armed for longer and longer: prolonged before it could be outlasted. */
	cr_expect_eq(shares_check_fire(shares, "db/pg-0", 200000, &err), -EBUSY);
	cr_expect(strstr(err_text(err), "outlast the claim on db/pg-0"), "%s", err_text(err));
	busy = 200000;
	shares_look(shares);
	LOOP_UNTIL(shares_check_fire(shares, "db/pg-0", 200000, NULL) == 0);
	cr_expect_eq(api.puts, 1);
	/* Not at each look. */
	shares_look(shares);
	for (int i = 0; i < 20; i++)
		sd_event_run(event, 5000);
	cr_expect_eq(api.puts, 1);
	api.broken = true;
	busy = 400000;
	shares_look(shares);
	LOOP_UNTIL(*told);
	cr_expect(strstr(told, "out of order"), "%s", told);
	cr_expect_eq(shares_check_fire(shares, "db/pg-0", 400000, NULL), -EBUSY);
	cr_expect_eq(shares_check_fire(shares, "db/pg-0", 100000, NULL), 0);
	/* Its faults have ended while the API server was away. */
	busy = 0;
	api.broken = false;
	shares_look(shares);
	LOOP_UNTIL(!shares_are_held(shares));
	cr_expect_eq(api.deletions, 1);
}

Test(share_claims, are_refused_where_no_place_is_left)
{
	struct outcome first = take("db/pg-0", 500000, 1000), second;

	cr_assert_eq(first.r, 0);
	busy = 60000;
	shares_settle(shares, first.claim);
	second = take("db/pg-1", 500000, 1000);
	cr_expect_eq(second.r, -EBUSY);
	cr_expect_null(second.claim);
	cr_expect(strstr(second.words, "1 of 1 instances of cluster db/main is under fault: db/pg-0 on node one"), "%s",
		second.words);
	cr_expect_eq(take("db/pg-2", 0, 1000).r, -EBUSY);
	/* The same instance again takes no second place. */
	second = take("db/pg-0", 500000, 1000);
	cr_expect_eq(second.r, 0);
	shares_settle(shares, second.claim);
}

/* Made by somebody else, so that it would end under our claims. */
Test(share_claims, are_not_put_into_what_no_agent_made)
{
	static const char map[] = "{\"metadata\": {\"name\": \"pgjolt-share-db.main\", \"namespace\": \"pgjolt\", "
		"\"resourceVersion\": \"1\", \"ownerReferences\": [{\"kind\": \"ConfigMap\", \"name\": \"pgjolt-stop\"}]}, "
		"\"data\": {\"claims\": \"{}\"}}";
	struct outcome o;

	snprintf(api.map, sizeof(api.map), "%s", map);
	o = take("db/pg-0", 500000, 1000);
	cr_expect_lt(o.r, 0);
	cr_expect_null(o.claim);
	cr_expect(strstr(o.words, "by hand") && strstr(o.words, "ownerReferences"), "%s", o.words);
	cr_expect_str_eq(api.map, map);
	cr_expect_eq(api.puts + api.posts + api.deletions, 0);
	*api.map = 0;
	LOOP_UNTIL(!shares_are_held(shares));
}

Test(share_claims, are_not_given_where_the_api_server_does_not_answer)
{
	struct outcome o;

	api.broken = true;
	o = take("db/pg-0", 500000, 1000);
	cr_expect_lt(o.r, 0);
	cr_expect_neq(o.r, -EBUSY);
	cr_expect(strstr(o.words, "out of order"), "%s", o.words);
	api.broken = false;
	LOOP_UNTIL(!shares_are_held(shares));
	cr_expect_eq(api.posts, 0);
}

Test(share_claims, of_an_agent_before_last_as_long_as_what_it_left)
{
	struct outcome o;

	snprintf(api.map, sizeof(api.map), "%s",
		"{\"metadata\": {\"name\": \"pgjolt-share-db.main\", \"namespace\": \"pgjolt\"}, "
		"\"data\": {\"claims\": \"{\\\"db/pg-0\\\": {\\\"node\\\": \\\"one\\\", "
		"\\\"until\\\": \\\"2100-01-01T00:00:00Z\\\"}}\"}}");
	busy = 60000;
	o = take("db/pg-1", 500000, 1000);
	cr_expect_eq(o.r, -EBUSY, "%s", o.words);
	cr_expect(strstr(o.words, "db/pg-0 on node one"), "%s", o.words);
	shares_settle(shares, o.claim);
	busy = 0;
	shares_look(shares);
	LOOP_UNTIL(!shares_are_held(shares) && !*api.map);
}

static const char left[] = "{\"metadata\": {\"name\": \"pgjolt-share-db.main\", \"namespace\": \"pgjolt\"}, "
	"\"data\": {\"cluster\": \"db/main\", \"claims\": \"{\\\"db/pg-0\\\": {\\\"node\\\": \\\"one\\\", "
	"\\\"until\\\": \\\"2100-01-01T00:00:00Z\\\"}}\"}}";

/* Whoever may create ConfigMaps can make more of them than one answer holds. */
Test(share_claims, of_an_agent_before_are_found_behind_what_others_made)
{
	snprintf(api.map, sizeof(api.map), "%s", left);
	api.foreign = 40;
	busy = 60000;
	LOOP_UNTIL(shares_are_held(shares));
	cr_expect_gt(api.pages, api.foreign / 8);
	cr_expect_str_eq(told, "");
	busy = 0;
	shares_look(shares);
	LOOP_UNTIL(!shares_are_held(shares) && !*api.map);
	cr_expect_eq(api.deletions, 1);
	cr_expect_eq(api.puts + api.posts, 0);
}

Test(share_claims, are_not_looked_for_without_end)
{
	unsigned pages;

	snprintf(api.map, sizeof(api.map), "%s", left);
	api.endless = true;
	LOOP_UNTIL(*told);
	cr_expect(strstr(told, "too many ConfigMaps"), "%s", told);
	/* What was found by then counts. */
	cr_expect_eq(api.deletions, 1);
	pages = api.pages;
	*told = 0;
	for (int i = 0; i < 20; i++) {
		shares_look(shares);
		sd_event_run(event, 5000);
	}
	cr_expect_eq(api.pages, pages);
	cr_expect_str_eq(told, "");
}
