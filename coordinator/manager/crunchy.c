#include "manager/crunchy.h"

#include <stdlib.h>
#include <string.h>

#include "manager/kube_manager.h"
#include "manager/patroni_kubernetes.h"

#define PREFIX "postgres-operator.crunchydata.com/"

void crunchy_judge(const cJSON *object, struct cluster_view *v)
{
	const char *why = NULL;

	if (cJSON_IsTrue(kube_field(object, "spec.shutdown")))
		why = "it is shut down (spec.shutdown)";
	else if (cJSON_IsTrue(kube_field(object, "spec.paused")))
		why = "its reconciliation is off (spec.paused): the operator would not act";
	else if (cJSON_IsTrue(kube_field(object, "spec.standby.enabled")))
		why = "it is a standby cluster (spec.standby): nothing in it takes writes";
	if (!v->refuse && why)
		v->refuse = strdup(why);
}

/* Its Patroni speaks TLS by a certificate authority of the operator's, so the store alone tells. */
static const struct patroni_flavour flavour = {
	.driver = &manager_crunchy,
	.label = PREFIX "cluster",
	.pods_too = "," PREFIX "instance," PREFIX "patroni",
	.scope_suffix = "-ha",
	.rest = false,
	/* -primary is headless and leads to this one (generateClusterPrimaryService). */
	.write_suffix = "-ha",
	.read_suffix = "-replicas",
	.kind = "PostgresCluster",
	.api = "/apis/postgres-operator.crunchydata.com/v1beta1",
	.resource = "postgresclusters",
	.judge = crunchy_judge,
};

static int detect(const struct manager_world *w, struct err **err)
{
	return patroni_flavour_detect(&flavour, NULL, NULL, w, err);
}

static int open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	return patroni_flavour_open(&flavour, w, ret, err);
}

const struct manager_driver manager_crunchy = {.name = "crunchy", .detect = detect, .open = open};
