#include "manager/zalando.h"

#include <stdlib.h>
#include <string.h>

#include "manager/kube_manager.h"
#include "manager/patroni_kubernetes.h"

void zalando_judge(const cJSON *object, struct cluster_view *v)
{
	const char *status = kube_text(object, "status.PostgresClusterStatus");

	if (!v->refuse && kube_field(object, "spec.standby"))
		v->refuse = strdup("it is a standby cluster (spec.standby): nothing in it takes writes");
	/* A sync or an update that failed leaves a cluster that serves; one under way moves its pods. */
	if (!v->unsettled && status &&
		(strcmp(status, "Creating") == 0 || strcmp(status, "Updating") == 0))
		v->unsettled = strdup(status);
}

static const struct patroni_flavour flavour = {
	.driver = &manager_zalando,
	.label = "cluster-name",
	.pods_too = ",application=spilo",
	.scope_suffix = "",
	.rest = true,
	.write_suffix = "",
	.read_suffix = "-repl",
	.kind = "postgresql",
	.api = "/apis/acid.zalan.do/v1",
	.resource = "postgresqls",
	.judge = zalando_judge,
};

static int detect(const struct manager_world *w, struct err **err)
{
	return patroni_flavour_detect(&flavour, "application", "spilo", w, err);
}

static int open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	return patroni_flavour_open(&flavour, w, ret, err);
}

const struct manager_driver manager_zalando = {.name = "zalando", .detect = detect, .open = open};
