#include "manager/stackgres.h"

#include <stdlib.h>
#include <string.h>

#include "manager/kube_manager.h"
#include "manager/patroni_kubernetes.h"

void stackgres_judge(const cJSON *object, struct cluster_view *v)
{
	const char *pause = kube_annotation(object, "stackgres.io/reconciliation-pause");
	const char *why = NULL;

	if (pause && strcmp(pause, "true") == 0)
		why = "its reconciliation is off (stackgres.io/reconciliation-pause): the operator would "
		      "not act";
	else if (kube_field(object, "spec.replicateFrom"))
		why = "it replicates from another cluster (spec.replicateFrom): nothing in it takes writes";
	if (!v->refuse && why)
		v->refuse = strdup(why);
}

static const struct patroni_flavour flavour = {
	.driver = &manager_stackgres,
	.label = "stackgres.io/cluster-name",
	.pods_too = ",app=StackGresCluster,stackgres.io/cluster=true",
	.scope_suffix = "",
	.rest = true,
	.write_suffix = "",
	.read_suffix = "-replicas",
	.kind = "SGCluster",
	.api = "/apis/stackgres.io/v1",
	.resource = "sgclusters",
	.judge = stackgres_judge,
};

static int detect(const struct manager_world *w, struct err **err)
{
	return patroni_flavour_detect(&flavour, "app", "StackGresCluster", w, err);
}

static int open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	return patroni_flavour_open(&flavour, w, ret, err);
}

const struct manager_driver manager_stackgres = {.name = "stackgres", .detect = detect, .open = open};
