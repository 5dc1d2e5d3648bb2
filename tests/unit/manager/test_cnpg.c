#include "data.h"

#include <errno.h>

#include "manager/cnpg.h"

static cJSON *data;

static void set_up(void)
{
	data = data_load("cnpg-failover.json");
}

static void tear_down(void)
{
	cJSON_Delete(data);
}

static struct cluster_view *view(const char *name)
{
	const cJSON *step = data_step(data, name);
	struct cluster_view *v = NULL;
	size_t n;
	struct pod *pods = data_pods(step, &n);

	cr_assert_eq(cnpg_parse_cluster(json_get(step, "cluster"), json_get(step, "quorum"), pods, n, 9, &v,
		NULL), 0);
	data_pods_free(pods, n);
	return v;
}

TestSuite(cnpg, .init = set_up, .fini = tear_down);

Test(cnpg, healthy)
{
	struct cluster_view *v = view("healthy");

	cr_assert_eq(v->at_ns, 9);
	cr_assert_str_eq(v->leader, "main-1");
	cr_assert(v->synchronous);
	cr_assert(!v->paused);
	cr_assert_null(v->refuse);
	cr_assert_null(v->unsettled);
	cr_assert_eq(v->n_members, 3, "a pooler's pod is no member");
	cr_assert_eq(data_member(v, "main-1")->role, ROLE_PRIMARY);
	cr_assert_eq(data_member(v, "main-1")->timeline, 4);
	cr_assert(data_member(v, "main-1")->running);
	cr_assert(!data_member(v, "main-1")->sync_standby);
	cr_assert_eq(data_member(v, "main-2")->role, ROLE_REPLICA);
	cr_assert(data_member(v, "main-2")->sync_standby);
	cr_assert_str_eq(data_member(v, "main-2")->state, "running");
	cluster_view_free(v);
}

Test(cnpg, through_a_failover)
{
	struct cluster_view *v = view("the primary is not ready");

	cr_assert_str_eq(v->leader, "main-1");
	cr_assert_str_eq(data_member(v, "main-1")->state, "not ready");
	cr_assert(!data_member(v, "main-1")->running);
	cr_assert_null(v->unsettled, "the operator has not noticed yet");
	cluster_view_free(v);

	v = view("pending");
	cr_assert_str_eq(v->leader, "main-1", "until another is promoted");
	cr_assert_str_eq(data_member(v, "main-1")->state, "unhealthy");
	cr_assert_str_eq(v->unsettled, "Failing over: Initiating a failover from main-1");
	cluster_view_free(v);

	v = view("chosen");
	cr_assert_str_eq(v->leader, "main-1");
	cr_assert(!data_member(v, "main-2")->sync_standby, "the quorum was reset");
	cluster_view_free(v);

	v = view("promoted");
	cr_assert_str_eq(v->leader, "main-3");
	cr_assert_eq(data_member(v, "main-3")->role, ROLE_PRIMARY);
	cr_assert_eq(data_member(v, "main-3")->timeline, 5);
	cr_assert_str_eq(data_member(v, "main-1")->state, "no pod");
	cr_assert(!data_member(v, "main-1")->running);
	cr_assert_not_null(v->unsettled);
	cluster_view_free(v);

	v = view("whole again");
	cr_assert_null(v->unsettled);
	cr_assert_eq(v->n_members, 3);
	for (size_t i = 0; i < 3; i++) {
		cr_assert(v->members[i].running);
		cr_assert_eq(v->members[i].timeline, 5);
	}
	cluster_view_free(v);
}

Test(cnpg, synchronous_without_a_quorum_object)
{
	const cJSON *step = data_step(data, "healthy");
	struct cluster_view *v = NULL;
	size_t n;
	struct pod *pods = data_pods(step, &n);

	cr_assert_eq(cnpg_parse_cluster(json_get(step, "cluster"), NULL, pods, n, 9, &v, NULL), 0);
	cr_assert(data_member(v, "main-2")->sync_standby, "ready replicas are what it is set up with");
	cluster_view_free(v);
	data_pods_free(pods, n);
}

static char *since(const char *status)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ cJSON *json = NULL;
	struct cluster_view *v = NULL;
	char *copy;

	cr_assert_gt(asprintf(&text, "{\"metadata\": {\"name\": \"main\"}, \"status\": %s}", status), 0);
	json = data_parse(text);
	cr_assert_eq(cnpg_parse_cluster(json, NULL, NULL, 0, 9, &v, NULL), 0);
	copy = v->leader_since ? strdup(v->leader_since) : NULL;
	cluster_view_free(v);
	return copy;
}

/* A word for texts: absent, of another type, endless or with what a terminal would obey. */
Test(cnpg, times)
{
	static const struct {
		const char *status, *since;
	} cases[] = {
		{"{\"currentPrimary\": \"a\", \"currentPrimaryTimestamp\": \"2026-08-21T09:00:12.3Z\"}",
			"2026-08-21T09:00:12.3Z"},
		{"{\"currentPrimary\": \"a\"}", NULL},
		{"{\"currentPrimary\": \"a\", \"currentPrimaryTimestamp\": \"\"}", NULL},
		{"{\"currentPrimary\": \"a\", \"currentPrimaryTimestamp\": 1700000000}", NULL},
		{"{\"currentPrimaryTimestamp\": \"2026-08-21T09:00:12.3Z\"}", NULL},
		{"{\"currentPrimary\": \"a\", \"currentPrimaryTimestamp\": \"\\u001b]0;x\\n\"}", "?]0;x?"},
		{"{\"currentPrimary\": \"a\", \"currentPrimaryTimestamp\": \""
		 "0123456789012345678901234567890123456789012345678901234567890123456789\"}",
			"012345678901234567890123456789012345678901234567890123456789..."},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_free_ char *word = since(cases[i].status);

		if (cases[i].since)
			cr_expect(word && strcmp(word, cases[i].since) == 0, "case %zu: %s", i, word ? word : "none");
		else
			cr_expect_null(word, "case %zu: %s", i, word);
	}
}

static char *refusal(const char *key, const char *value, const char *spec)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_gt(asprintf(&text, "{\"metadata\": {\"name\": \"main\", \"annotations\": {\"%s\": %s}},"
		"\"spec\": %s}", key, value, spec), 0);
	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	return cnpg_refusal(json);
}

Test(cnpg, what_refuses)
{
	static const struct {
		const char *key, *value, *spec, *word;
	} cases[] = {
		{"cnpg.io/fencedInstances", "\"[\\\"*\\\"]\"", "{}", "fencedInstances"},
		{"cnpg.io/fencedInstances", "\"[\\\"main-2\\\"]\"", "{}", "main-2"},
		{"cnpg.io/fencedInstances", "\"what is this\"", "{}", "what is this"},
		{"cnpg.io/fencedInstances", "\"[]\"", "{}", NULL},
		{"cnpg.io/fencedInstances", "\"\"", "{}", NULL},
		{"cnpg.io/reconciliationLoop", "\"disabled\"", "{}", "reconciliationLoop"},
		{"cnpg.io/reconciliationLoop", "\"enabled\"", "{}", NULL},
		{"cnpg.io/hibernation", "\"on\"", "{}", "hibernated"},
		{"cnpg.io/hibernation", "\"off\"", "{}", NULL},
		{"x", "\"\"", "{\"nodeMaintenanceWindow\": {\"inProgress\": true}}", "maintenance"},
		{"x", "\"\"", "{\"nodeMaintenanceWindow\": {\"inProgress\": false}}", NULL},
		{"x", "\"\"", "{\"replica\": {\"enabled\": true, \"source\": \"a\"}}", "replica cluster"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_free_ char *why = refusal(cases[i].key, cases[i].value, cases[i].spec);

		if (cases[i].word)
			cr_assert(why && strstr(why, cases[i].word), "case %zu: %s", i, why ? why : "none");
		else
			cr_assert_null(why, "case %zu: %s", i, why);
	}
}

Test(cnpg, hostile)
{
	_cleanup_json_ cJSON *hostile = data_load("hostile.json");
	const cJSON *item;

	cJSON_ArrayForEach(item, json_get(hostile, "nameless")) {
		struct cluster_view *v = NULL;

		cr_assert_eq(cnpg_parse_cluster(item, NULL, NULL, 0, 1, &v, NULL), -EPROTO);
	}
	cJSON_ArrayForEach(item, json_get(hostile, "clusters")) {
		struct cluster_view *v = NULL;

		cr_assert_eq(cnpg_parse_cluster(item, item, NULL, 0, 1, &v, NULL), 0);
		cr_assert_null(v->leader);
		cr_assert(!v->synchronous);
		cr_assert_leq(v->n_members, 128);
		cr_assert_not_null(v->unsettled, "no phase is not a healthy one");
		for (size_t i = 0; i < v->n_members; i++)
			cr_assert_eq(v->members[i].timeline, 0);
		cluster_view_free(v);
	}
}
