#include "kube/pod.h"

#include <string.h>

const char *pod_cluster_label(const cJSON *pod)
{
	static const char *const labels[] = {
		"cnpg.io/cluster",
		"postgres-operator.crunchydata.com/cluster",
		"stackgres.io/cluster-name",
		"cluster-name",
	};

	for (size_t i = 0; i < ELEMENTS(labels); i++) {
		const char *value = kube_label(pod, labels[i]);

		if (value && *value)
			return labels[i];
	}
	return NULL;
}

const char *pod_cluster(const cJSON *pod)
{
	const char *label = pod_cluster_label(pod);

	return label ? kube_label(pod, label) : NULL;
}

bool pod_is_member(const cJSON *pod)
{
	const char *role = kube_label(pod, "cnpg.io/podRole");

	if (kube_label(pod, "cnpg.io/cluster"))
		return role ? strcmp(role, "instance") == 0 : kube_label(pod, "cnpg.io/instanceName") != NULL;
	if (kube_label(pod, "postgres-operator.crunchydata.com/cluster"))
		return kube_label(pod, "postgres-operator.crunchydata.com/instance") != NULL;
	if (kube_label(pod, "stackgres.io/cluster-name"))
		return kube_label(pod, "stackgres.io/cluster") != NULL;
	/* Zalando's poolers bear the cluster's name too. */
	return !kube_label(pod, "connection-pooler");
}

bool pod_has_ended(const cJSON *pod)
{
	const char *phase = kube_text(pod, "status.phase");

	return phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0);
}

const char *pod_controller(const cJSON *pod, const char **ret_name)
{
	const cJSON *owner;

	cJSON_ArrayForEach(owner, kube_field(pod, "metadata.ownerReferences")) {
		const char *kind = kube_text(owner, "kind"), *name = kube_text(owner, "name");

		if (!kind || !name || !cJSON_IsTrue(kube_field(owner, "controller")))
			continue;
		if (ret_name)
			*ret_name = name;
		return kind;
	}
	return NULL;
}
