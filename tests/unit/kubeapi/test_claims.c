/* What stands in a cluster's ConfigMap, and how many instances a cluster has. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "experiment/experiment.h"
#include "kube/kube.h"
#include "kubeapi/claims.h"
#include "kubeapi/members.h"

static cJSON *parse(const char *text)
{
	cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	return json;
}

#define METADATA "\"name\": \"n\", \"namespace\": \"pgjolt\", \"uid\": \"u\", \"resourceVersion\": \"7\""

static cJSON *map_with(const char *text)
{
	cJSON *map = parse("{\"metadata\": {" METADATA ", \"labels\": {\"theirs\": \"goes\"}, "
		"\"annotations\": {\"theirs\": \"goes\"}, \"managedFields\": []}, \"data\": {\"theirs\": \"goes\"}}");

	json_add_string(cJSON_GetObjectItem(map, "data"), "claims", text);
	return map;
}

Test(claims, are_read_as_they_were_written)
{
	struct claims c = {0}, again = {0};
	_cleanup_json_ cJSON *map = NULL, *with = NULL;

	cr_expect(claims_put(&c, "shop/a", "one", 2000000000));
	cr_expect(claims_put(&c, "shop/b\"\n", "two", 0));
	map = claims_map("pgjolt", "pgjolt-share-shop.orders", "shop/orders", &c, NULL);
	cr_expect_str_eq(kube_text(map, "kind"), "ConfigMap");
	cr_expect_str_eq(kube_label(map, "app.kubernetes.io/component"), "share");
	cr_expect_str_eq(claims_cluster(map), "shop/orders");
	cr_expect_null(kube_field(map, "metadata.resourceVersion"));
	cr_expect_eq(claims_read(map, &again, NULL), 0);
	cr_assert_eq(again.count, 2);
	cr_expect_eq(claims_find(&again, "shop/a")->until_s, 2000000000);
	cr_expect_str_eq(claims_find(&again, "shop/b\"\n")->node, "two");
	cr_expect_null(claims_find(&again, "shop/c"));
	claims_done(&again);

	/* In the place of another: its version decides, and nothing else of it is kept. */
	with = map_with("{}");
	cJSON_Delete(map);
	map = claims_map("pgjolt", "n", "shop/orders", &c, with);
	cr_expect_str_eq(kube_text(map, "metadata.resourceVersion"), "7");
	cr_expect_str_eq(kube_uid(map), "u");
	cr_expect_str_eq(kube_label(map, "app.kubernetes.io/component"), "share");
	cr_expect_null(kube_label(map, "theirs"));
	cr_expect_null(kube_annotation(map, "theirs"));
	cr_expect_null(kube_field(map, "data.theirs"));
	cr_expect_null(kube_field(map, "metadata.managedFields"));
	cr_expect_eq(claims_read(map, &again, NULL), 0);
	cr_expect_eq(again.count, 2);
	claims_done(&again);
	claims_done(&c);
}

Test(claims, nothing_is_no_claim)
{
	_cleanup_json_ cJSON *empty = map_with("{}");
	struct claims c = {0};

	cr_expect_eq(claims_read(NULL, &c, NULL), 0);
	cr_expect_eq(claims_read(empty, &c, NULL), 0);
	cr_expect_eq(c.count, 0);
	cr_expect_null(claims_words(&c));
}

Test(claims, a_cluster_is_that_of_the_name)
{
	static const struct {
		const char *name, *cluster;
		bool good;
	} cases[] = {
		{"pgjolt-share-shop.orders", "shop/orders", true}, {"pgjolt-share-shop.orders", "shop/other", false},
		{"pgjolt-share-shop.orders", "", false}, {"n", "shop/orders", false},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_json_ cJSON *map = claims_map("pgjolt", cases[i].name, cases[i].cluster,
			&(struct claims){0}, NULL);

		cr_expect_eq(claims_cluster(map) != NULL, cases[i].good, "%s", cases[i].cluster);
	}
	cr_expect_null(claims_cluster(NULL));
}

Test(claims, what_cannot_be_read_is_refused)
{
	static const char *const bad[] = {"", "{", "[]", "5", "{\"a\": 5}", "{\"a\": {}}", "{\"a\": {\"node\": \"x\"}}",
		"{\"a\": {\"node\": 5, \"until\": \"2030-01-01T00:00:00Z\"}}",
		"{\"a\": {\"node\": \"x\", \"until\": \"2030-01-01\"}}",
		"{\"a\": {\"node\": \"x\", \"until\": \"2030-01-01T00:00:00Zx\"}}",
		"{\"a\": {\"node\": \"x\", \"until\": \"9999-12-31T23:59:60Z\"}}",
		"{\"a\": {\"node\": \"x\", \"until\": \"0000-01-01T00:00:00Z\"}}",
		"{\"a\": {\"node\": \"x\", \"until\": 7}}"};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_json_ cJSON *map = map_with(bad[i]);
		_cleanup_err_ struct err *err = NULL;
		struct claims c = {0};

		cr_expect_eq(claims_read(map, &c, &err), -EBADMSG, "%s", bad[i]);
		cr_expect(strstr(err_text(err), "ConfigMap pgjolt/n"), "%s", err_text(err));
		cr_expect_eq(c.count, 0);
	}
}

/* Who may create ConfigMaps can have made this one so that it ends under our claims, or never takes them. */
Test(claims, what_no_agent_made_is_refused)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{"{\"metadata\": {" METADATA "}}", "no \"claims\""},
		{"{\"metadata\": {" METADATA "}, \"data\": {}}", "no \"claims\""},
		{"{\"metadata\": {" METADATA "}, \"data\": {\"claims\": 5}}", "no \"claims\""},
		{"{\"metadata\": {" METADATA "}, \"data\": 5}", "no \"claims\""},
		{"[]", "no \"claims\""},
		{"{\"metadata\": {" METADATA ", \"ownerReferences\": [{\"kind\": \"ConfigMap\", \"name\": \"pgjolt-stop\"}]}, "
		 "\"data\": {\"claims\": \"{}\"}}", "metadata.ownerReferences"},
		{"{\"metadata\": {" METADATA ", \"finalizers\": [\"x/y\"]}, \"data\": {\"claims\": \"{}\"}}",
		 "metadata.finalizers"},
		{"{\"metadata\": {" METADATA ", \"deletionTimestamp\": \"2026-01-01T00:00:00Z\"}, "
		 "\"data\": {\"claims\": \"{}\"}}", "metadata.deletionTimestamp"},
		{"{\"metadata\": {" METADATA "}, \"immutable\": true, \"data\": {\"claims\": \"{}\"}}", "immutable"},
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_json_ cJSON *map = parse(bad[i].text);
		_cleanup_err_ struct err *err = NULL;
		struct claims c = {0};

		cr_expect_eq(claims_read(map, &c, &err), -EBADMSG, "%s", bad[i].text);
		cr_expect(strstr(err_text(err), bad[i].word), "%s", err_text(err));
	}
}

Test(claims, end_by_themselves)
{
	struct claims c = {0};
	_cleanup_free_ char *words = NULL;

	claims_put(&c, "a", "one", 1000);
	claims_put(&c, "b", "two", 2000);
	cr_expect_eq(claims_expire(&c, 1000 + CLAIM_SLACK_S), 0);
	cr_expect_eq(claims_expire(&c, 1001 + CLAIM_SLACK_S), 1);
	cr_expect_null(claims_find(&c, "a"));
	words = claims_words(&c);
	cr_expect_str_eq(words, "b on node two until 1970-01-01T00:33:20Z");
	claims_done(&c);
}

Test(claims, belong_to_a_node)
{
	struct claims c = {0};

	cr_expect(claims_put(&c, "a", "one", 1000));
	cr_expect_not(claims_put(&c, "a", "one", 900));
	cr_expect(claims_put(&c, "a", "one", 1100));
	cr_expect_not(claims_drop(&c, "a", "two"));
	cr_expect(claims_put(&c, "a", "two", 500));
	cr_expect_eq(claims_find(&c, "a")->until_s, 500);
	cr_expect_not(claims_drop(&c, "a", "one"));
	cr_expect(claims_drop(&c, "a", "two"));
	cr_expect_eq(c.count, 0);
	claims_done(&c);
}

Test(share, is_rounded_down_but_to_one)
{
	static const struct {
		uint32_t ppm;
		unsigned members, most;
	} cases[] = {
		{500000, 1, 1}, {500000, 2, 1}, {500000, 3, 1}, {500000, 4, 2}, {500000, 5, 2}, {340000, 3, 1},
		{333333, 3, 1}, {666667, 3, 2}, {10000, 7, 1}, {1, 1, 1}, {0, 1, 0}, {0, 100, 0},
		{1000000, 3, 3}, {999999, 3, 2},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++)
		cr_expect_eq(share_allows(cases[i].ppm, cases[i].members), cases[i].most, "%u of %u",
			cases[i].ppm, cases[i].members);
}

#define POD(labels, more) "{\"metadata\": {\"namespace\": \"db\", \"labels\": {" labels "}" more "}}"
#define OWNED(kind, name) \
	", \"ownerReferences\": [{\"kind\": \"" kind "\", \"name\": \"" name "\", \"controller\": true}]"

static unsigned count(const char *own, const char *items)
{
	_cleanup_json_ cJSON *pod = parse(own), *list = NULL;
	_cleanup_free_ char *text = NULL;

	cr_assert_gt(asprintf(&text, "{\"items\": [%s]}", items), 0);
	list = parse(text);
	return members_count(list, pod);
}

Test(members, by_the_operators_label)
{
	static const char own[] = POD("\"cluster-name\": \"m\"", "");
	static const char cnpg[] = POD("\"cnpg.io/cluster\": \"m\", \"cnpg.io/instanceName\": \"m-1\"", "");
	_cleanup_json_ cJSON *pod = parse(own);
	_cleanup_free_ char *path = members_path(pod);

	cr_expect_str_eq(path, "/api/v1/namespaces/db/pods?labelSelector=cluster-name%3Dm");
	cr_expect_eq(count(own, POD("\"cluster-name\": \"m\"", "") "," POD("\"cluster-name\": \"m\"", "")), 2);
	cr_expect_eq(count(own, POD("\"cluster-name\": \"m\"", "") "," POD("\"cluster-name\": \"other\"", "") ","
		POD("\"cluster-name\": \"m\", \"connection-pooler\": \"m\"", "") ","
		POD("\"cluster-name\": \"m\"", ", \"deletionTimestamp\": \"2026-01-01T00:00:00Z\"") ","
		"{\"metadata\": {\"labels\": {\"cluster-name\": \"m\"}}, \"status\": {\"phase\": \"Succeeded\"}}"), 1);
	cr_expect_eq(count(cnpg, POD("\"cnpg.io/cluster\": \"m\", \"cnpg.io/instanceName\": \"m-1\"", "") ","
		POD("\"cnpg.io/cluster\": \"m\", \"cnpg.io/podRole\": \"pooler\"", "") ","
		POD("\"cnpg.io/cluster\": \"m\", \"cnpg.io/podRole\": \"instance\"", "")), 2);
}

Test(members, by_what_made_them)
{
	static const char own[] = POD("", OWNED("StatefulSet", "m"));
	_cleanup_json_ cJSON *pod = parse(own), *lone = parse(POD("", ""));
	_cleanup_free_ char *path = members_path(pod);

	cr_expect_str_eq(path, "/api/v1/namespaces/db/pods");
	cr_expect_null(members_path(lone));
	cr_expect_eq(count(own, POD("", OWNED("StatefulSet", "m")) "," POD("", OWNED("StatefulSet", "n")) ","
		POD("", OWNED("ReplicaSet", "m")) "," POD("", OWNED("StatefulSet", "m")) "," POD("", "")), 2);
	cr_expect_eq(members_count(NULL, lone), 1);
	cr_expect_eq(count(own, "5, {}, []"), 1);
}
