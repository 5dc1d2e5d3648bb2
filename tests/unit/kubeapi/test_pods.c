#include <criterion/criterion.h>
#include <string.h>
#include "kubeapi/pods.h"

#define ID "c0ffee000000000011111111222222223333333344444444555555556666666f"

static struct instance_info *instance(const char *cluster_name)
{
	struct instance_info *i = calloc(1, sizeof(*i));

	i->name = strdup("db/pg-0");
	i->namespace = strdup("db");
	i->pod = strdup("pg-0");
	i->cluster = strdup("db/guess");
	i->cluster_name = cluster_name ? strdup(cluster_name) : NULL;
	i->cgroup = strdup("/kubepods/burstable/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/" ID);
	return i;
}

static void describe(struct instance_info *i, const char *text)
{
	_cleanup_json_ cJSON *pod = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &pod, &err), 0, "%s", err_text(err));
	pod_describe(pod, i);
}

#define OWNED(kind) \
	"\"ownerReferences\": [{\"kind\": \"Other\", \"name\": \"x\"}," \
	"{\"kind\": \"" kind "\", \"name\": \"main\", \"controller\": true}]"

Test(pods, clusters_by_their_operators_labels)
{
	static const char *const keys[] = {"cnpg.io/cluster", "cluster-name", "stackgres.io/cluster-name",
		"postgres-operator.crunchydata.com/cluster"};

	for (size_t k = 0; k < ELEMENTS(keys); k++) {
		_cleanup_(instance_info_freep) struct instance_info *i = instance("scope");
		char text[512];

		snprintf(text, sizeof(text), "{\"metadata\": {\"labels\": {\"%s\": \"orders\", \"n\": 5}, "
			OWNED("StatefulSet") "}}", keys[k]);
		describe(i, text);
		cr_expect_str_eq(i->cluster, "db/orders", "%s", keys[k]);
		cr_expect_str_eq(i->owner, "StatefulSet/main");
		cr_expect_eq(strv_length(i->labels), 1);
	}
}

Test(pods, clusters_without_a_label)
{
	_cleanup_(instance_info_freep) struct instance_info *named = instance("scope"), *set = instance(NULL),
		*other = instance(NULL);

	describe(named, "{\"metadata\": {\"labels\": {\"a\": \"b\"}, " OWNED("StatefulSet") "}}");
	cr_expect_str_eq(named->cluster, "db/guess");	/* PostgreSQL's own */
	describe(set, "{\"metadata\": {" OWNED("StatefulSet") "}}");
	cr_expect_str_eq(set->cluster, "db/main");
	describe(other, "{\"metadata\": {" OWNED("ReplicaSet") "}}");
	cr_expect_str_eq(other->cluster, "db/guess");
	cr_expect_str_eq(other->owner, "ReplicaSet/main");
}

Test(pods, container_by_its_id)
{
	_cleanup_(instance_info_freep) struct instance_info *i = instance(NULL);

	i->container = strdup("guess");
	describe(i, "{\"status\": {\"containerStatuses\": [{\"name\": \"no\"}, 7, "
		"{\"name\": \"sidecar\", \"containerID\": \"containerd://beef\"}, "
		"{\"name\": \"database\", \"containerID\": \"cri-o://" ID "\"}]}}");
	cr_expect_str_eq(i->container, "database");
}

Test(pods, odd_objects_change_nothing)
{
	static const char *const odd[] = {"{}", "[]", "{\"metadata\": 5}", "{\"metadata\": {\"labels\": []}}",
		"{\"metadata\": {\"ownerReferences\": {\"kind\": \"x\"}}, \"status\": {\"containerStatuses\": 1}}",
		"{\"metadata\": {\"labels\": {\"cnpg.io/cluster\": \"\"}}}"};

	for (size_t k = 0; k < ELEMENTS(odd); k++) {
		_cleanup_(instance_info_freep) struct instance_info *i = instance(NULL);

		describe(i, odd[k]);
		cr_expect_str_eq(i->cluster, "db/guess", "%s", odd[k]);
		cr_expect_null(i->owner);
		cr_expect_null(i->container);
	}
}
