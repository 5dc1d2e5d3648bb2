#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "core/clock.h"
#include "manager/patroni.h"

static char *addresses1[] = {"10.0.0.1", "fd00::1", NULL}, *addresses2[] = {"10.0.0.2", NULL};
static struct instance_info pg1 = {.name = "lab/pg1", .member = "pg1", .port = 5432, .addresses = addresses1};
static struct instance_info pg2 = {.name = "lab/pg2", .member = "pg2", .port = 5432, .addresses = addresses2};
static struct instance_info *const instances[] = {&pg1, &pg2};

static int parse(const char *text, struct cluster_view **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, err), 0, "%s", text);
	return patroni_parse_cluster(json, "pg1", 77, instances, 2, ret, err);
}

static struct cluster_view *view(const char *text)
{
	_cleanup_err_ struct err *err = NULL;
	struct cluster_view *v = NULL;

	cr_assert_eq(parse(text, &v, &err), 0, "%s: %s", text, err_text(err));
	return v;
}

Test(patroni, a_whole_answer)
{
	struct cluster_view *v = view(
		"{\"members\": [{\"name\": \"pg1\", \"role\": \"leader\", \"state\": \"running\", \"host\": \"10.0.0.1\","
		" \"port\": 5432, \"timeline\": 3, \"api_url\": \"http://10.0.0.1:8008/patroni\"},"
		"{\"name\": \"pg2\", \"role\": \"sync_standby\", \"state\": \"streaming\", \"host\": \"10.0.0.2\","
		" \"port\": 5432, \"timeline\": 3, \"lag\": 42, \"tags\": {}},"
		"{\"name\": \"pg9\", \"role\": \"replica\", \"state\": \"start failed\", \"lag\": \"unknown\"}],"
		"\"scope\": \"lab\"}");

	cr_assert_eq(v->at_ns, 77);
	cr_assert_str_eq(v->source, "pg1");
	cr_assert_str_eq(v->leader, "pg1");
	cr_assert(!v->paused);
	cr_assert_eq(v->n_members, 3);
	cr_assert_str_eq(v->members[0].instance, "lab/pg1");
	cr_assert_eq(v->members[0].role, ROLE_PRIMARY);
	cr_assert(v->members[0].running);
	cr_assert_eq(v->members[0].timeline, 3);
	cr_assert_eq(v->members[0].lag_bytes, -1);
	cr_assert_str_eq(v->members[1].instance, "lab/pg2");
	cr_assert(v->members[1].sync_standby);
	cr_assert(v->members[1].running);
	cr_assert_eq(v->members[1].lag_bytes, 42);
	cr_assert_null(v->members[2].instance);
	cr_assert(!v->members[2].running);
	cr_assert_str_eq(v->members[2].state, "start failed");
	cr_assert_eq(v->members[2].lag_bytes, -1);
	cluster_view_free(v);
}

Test(patroni, old_and_other_words)
{
	struct cluster_view *v = view("{\"members\": [{\"name\": \"pg2\", \"role\": \"master\", \"state\": null},"
				      "{\"name\": \"x\", \"role\": \"quorum_standby\", \"host\": \"fd00::1\"}],"
				      "\"pause\": true}");

	cr_assert(v->paused);
	cr_assert_str_eq(v->leader, "pg2");
	cr_assert_str_eq(v->members[0].instance, "lab/pg2", "by its name");
	cr_assert_str_eq(v->members[0].state, "unknown");
	cr_assert(!v->members[0].running);
	cr_assert_str_eq(v->members[1].instance, "lab/pg1", "by any of its addresses");
	cr_assert(v->members[1].sync_standby);
	cluster_view_free(v);
	v = view("{\"members\": []}");
	cr_assert_null(v->leader);
	cr_assert_eq(v->n_members, 0);
	cluster_view_free(v);
	/* The port tells two on one host apart; the name decides where it fits none. */
	v = view("{\"members\": [{\"name\": \"pg2\", \"role\": \"replica\", \"host\": \"10.0.0.1\", \"port\": 5433}]}");
	cr_assert_str_eq(v->members[0].instance, "lab/pg2");
	cluster_view_free(v);
}

Test(patroni, hostile)
{
	static const char *const bad[] = {"[]", "3", "null", "\"members\"", "{}", "{\"members\": {}}",
		"{\"members\": null}", "{\"members\": [1]}", "{\"members\": [null]}", "{\"members\": [[]]}",
		"{\"members\": [{}]}", "{\"members\": [{\"name\": \"pg1\"}]}",
		"{\"members\": [{\"name\": 1, \"role\": \"leader\"}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": []}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"port\": -1}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"port\": \"x\"}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"timeline\": 1.5}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"state\": {}}]}",
		"{\"members\": [{\"name\": \"a\", \"role\": \"replica\"}, {\"name\": \"b\"}]}"};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_err_ struct err *err = NULL;
		struct cluster_view *v = NULL;

		cr_assert_lt(parse(bad[i], &v, &err), 0, "taken: %s", bad[i]);
		cr_assert(strncmp(err_text(err), "pg1: GET /cluster", 17) == 0, "%s", err_text(err));
		cr_assert_null(v);
	}
	cr_assert_lt(patroni_parse_cluster(NULL, "pg1", 1, instances, 2, &(struct cluster_view *){NULL}, NULL), 0);
}

/* Odd, but no reason to know nothing at all. */
Test(patroni, out_of_range)
{
	struct cluster_view *v = view(
		"{\"members\": [{\"name\": \"a\", \"role\": \"leader\", \"timeline\": 99999999999, \"lag\": -5},"
		"{\"name\": \"a\", \"role\": \"leader\", \"lag\": 1e300}, {\"name\": \"\", \"role\": \"\", \"lag\": {}}]}");

	cr_assert_str_eq(v->leader, "a");
	cr_assert_eq(v->members[0].timeline, 0);
	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(v->members[i].lag_bytes, -1);
	cluster_view_free(v);
}

static struct cluster_member on_timeline[] = {{.timeline = 0}, {.timeline = 1}, {.timeline = 2}};

static struct cluster_view says(const char *leader, unsigned timeline, uint64_t at_ms)
{
	return (struct cluster_view){.leader = (char *)leader, .at_ns = 100 * NS_PER_S + at_ms * NS_PER_MS,
		.members = &on_timeline[timeline], .n_members = 1};
}

Test(patroni, answers_are_weighed)
{
	struct cluster_view old = says("pg1", 1, 900), a = says("pg2", 2, 100), b = says("pg2", 2, 200),
			    none = says(NULL, 2, 950), older = says("pg1", 2, 10), stale = says("pg9", 2, 0);
	const struct cluster_view *v[4] = {NULL};
	uint64_t now = 101 * NS_PER_S;

	cr_assert_null(patroni_weigh(v, 4, now), "nobody answered");
	cr_assert_null(patroni_weigh(v, 0, now));
	v[1] = &old;
	cr_assert_eq(patroni_weigh(v, 4, now), &old);
	/* One that is cut off is outvoted, however new its answer. */
	v[0] = &a;
	v[3] = &b;
	cr_assert_eq(patroni_weigh(v, 4, now), &b, "the newer of those that agree");
	/* One against one: the newer timeline, then the newer answer. */
	v[3] = NULL;
	cr_assert_eq(patroni_weigh(v, 4, now), &a);
	v[1] = &older;
	cr_assert_eq(patroni_weigh(v, 4, now), &a);
	/* That nobody leads is a word as well. */
	v[1] = &none;
	cr_assert_eq(patroni_weigh(v, 4, now), &none);
	v[2] = &b;
	cr_assert_eq(patroni_weigh(v, 4, now), &b);
	/* Too old for a vote. */
	v[0] = v[1] = v[2] = &stale;
	cr_assert_eq(patroni_weigh(v, 4, now + NS_PER_S), &stale);
	cr_assert_null(patroni_weigh(v, 4, now + NS_PER_S + 1));
}
