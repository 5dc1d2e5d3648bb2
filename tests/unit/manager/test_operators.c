#include "data.h"

#include <errno.h>

#include "manager/crunchy.h"
#include "manager/stackgres.h"
#include "manager/zalando.h"

typedef void (*judge)(const cJSON *object, struct cluster_view *v);

static void check(judge j, const char *operator, const char *state, const char *refuse,
	const char *unsettled)
{
	_cleanup_json_ cJSON *data = data_load("operators.json");
	const cJSON *object = json_get(json_get(data, operator), state);
	struct cluster_view v = {0};

	cr_assert_not_null(object, "%s %s", operator, state);
	j(object, &v);
	cr_assert(refuse ? v.refuse && strstr(v.refuse, refuse) : !v.refuse, "%s %s: %s", operator, state,
		v.refuse ? v.refuse : "none");
	cr_assert(unsettled ? v.unsettled && strcmp(v.unsettled, unsettled) == 0 : !v.unsettled,
		"%s %s: %s", operator, state, v.unsettled ? v.unsettled : "none");
	free(v.refuse);
	free(v.unsettled);
}

Test(operators, zalando)
{
	check(zalando_judge, "zalando", "running", NULL, NULL);
	check(zalando_judge, "zalando", "updating", NULL, "Updating");
	check(zalando_judge, "zalando", "failed", NULL, NULL);
	check(zalando_judge, "zalando", "standby", "standby", NULL);
}

Test(operators, crunchy)
{
	check(crunchy_judge, "crunchy", "running", NULL, NULL);
	check(crunchy_judge, "crunchy", "paused", "spec.paused", NULL);
	check(crunchy_judge, "crunchy", "shutdown", "spec.shutdown", NULL);
	check(crunchy_judge, "crunchy", "standby", "standby", NULL);
	check(crunchy_judge, "crunchy", "odd", NULL, NULL);
}

Test(operators, stackgres)
{
	check(stackgres_judge, "stackgres", "running", NULL, NULL);
	check(stackgres_judge, "stackgres", "paused", "reconciliation-pause", NULL);
	check(stackgres_judge, "stackgres", "replica", "replicateFrom", NULL);
}

/* By the labels of one pod, in the order in which they are asked. */
static const char *detected(const char *labels, const char *status)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ cJSON *pod = NULL;
	struct instance_info i = {.name = "shop/x-0", .namespace = "shop", .pod = "x-0", .member = "x-0"};
	struct instance_info *const all[] = {&i};
	struct manager_world w = {.instances = all, .n = 1, .cluster = "shop/x"};

	cr_assert_gt(asprintf(&text, "{\"metadata\": {\"name\": \"x-0\", \"namespace\": \"shop\", \"labels\": {%s},"
		"\"annotations\": {\"status\": \"%s\"}, \"ownerReferences\": [{\"kind\": \"StatefulSet\","
		"\"name\": \"x\", \"controller\": true}]}}", labels, status), 0);
	cr_assert_eq(json_parse(text, strlen(text), &pod, NULL), 0, "%s", text);
	w.pod = pod;
	for (const struct manager_driver *const *d = manager_drivers(); *d; d++)
		if (strcmp((*d)->name, "patroni") != 0 && (*d)->detect(&w, NULL) == 0)
			return (*d)->name;
	return "none";
}

#define STATUS "{\\\"api_url\\\":\\\"http://x/patroni\\\",\\\"conn_url\\\":\\\"postgres://x/\\\"}"

Test(operators, whose_pod)
{
	cr_assert_str_eq(detected("\"cnpg.io/cluster\": \"x\"", ""), "cnpg");
	cr_assert_str_eq(detected("\"postgres-operator.crunchydata.com/cluster\": \"x\"", STATUS), "crunchy");
	cr_assert_str_eq(detected("\"application\": \"spilo\", \"cluster-name\": \"x\"", STATUS), "zalando");
	cr_assert_str_eq(detected("\"app\": \"StackGresCluster\", \"stackgres.io/cluster-name\": \"x\"", STATUS),
		"stackgres");
	cr_assert_str_eq(detected("\"application\": \"patroni\", \"cluster-name\": \"x\"", STATUS),
		"patroni-kubernetes");
	cr_assert_str_eq(detected("\"my/scope\": \"x\"", STATUS), "patroni-kubernetes", "by the label's value");
	cr_assert_str_eq(detected("\"cluster-name\": \"x\"", "{}"), "statefulset", "no member of Patroni's");
	cr_assert_str_eq(detected("\"cluster-name\": \"x\"", "{"), "statefulset");
	cr_assert_str_eq(detected("", ""), "statefulset");
}

Test(operators, without_kubernetes)
{
	struct instance_info i = {.name = "lab/x", .cluster = "lab", .member = "x"};
	struct instance_info *const all[] = {&i};
	struct manager_world w = {.instances = all, .n = 1};
	struct manager *m = NULL;
	struct err *err = NULL;

	for (const struct manager_driver *const *d = manager_drivers(); *d; d++) {
		if (strcmp((*d)->name, "patroni") == 0 || strcmp((*d)->name, "plain") == 0)
			continue;
		cr_assert_eq(manager_open((*d)->name, &w, &m, &err), -ENOENT, "%s", (*d)->name);
		cr_assert(strstr(err_text(err), (*d)->name), "%s", err_text(err));
		err_free(err);
		err = NULL;
	}
}

/* The option's words and the drivers. */
Test(operators, names)
{
	_cleanup_free_ char *names = manager_names();
	_cleanup_free_ char *list = strdup(MANAGER_NAMES);
	struct manager_world w = {0};
	struct manager *m = NULL;
	struct err *err = NULL;
	char *save = NULL;
	size_t n = 0, drivers = 0;

	for (char *word = strtok_r(list, " ", &save); word; word = strtok_r(NULL, " ", &save), n++) {
		cr_assert(strstr(names, word), "%s", word);
		cr_assert(strstr(MANAGER_NAMES_HELP, word), "%s", word);
	}
	for (const struct manager_driver *const *d = manager_drivers(); *d; d++)
		drivers++;
	cr_assert_eq(n, drivers + 1);
	cr_assert_eq(manager_open("repmgr", &w, &m, &err), -EINVAL);
	cr_assert(strstr(err_text(err), names), "%s", err_text(err));
	err_free(err);
}
