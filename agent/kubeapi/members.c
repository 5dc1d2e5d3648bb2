#include "kubeapi/members.h"

#include <string.h>
#include "kube/pod.h"

char *members_path(const cJSON *pod)
{
	const char *label = pod_cluster_label(pod);

	if (label)
		return kube_path("/api/v1/namespaces/%s/pods?labelSelector=%s%s%s", kube_namespace(pod), label,
			"=", kube_label(pod, label));
	if (pod_controller(pod, NULL))
		return kube_path("/api/v1/namespaces/%s/pods", kube_namespace(pod));
	return NULL;
}

static bool same_label(const cJSON *a, const cJSON *b, const char *label)
{
	const char *one = kube_label(a, label), *other = kube_label(b, label);

	return one && other && strcmp(one, other) == 0 && pod_is_member(a);
}

static bool same_controller(const cJSON *a, const cJSON *b)
{
	const char *name_a, *name_b, *kind_a = pod_controller(a, &name_a), *kind_b = pod_controller(b, &name_b);

	return kind_a && kind_b && strcmp(kind_a, kind_b) == 0 && strcmp(name_a, name_b) == 0;
}

unsigned members_count(const cJSON *list, const cJSON *pod)
{
	const char *label = pod_cluster_label(pod);
	const cJSON *item;
	unsigned n = 0;

	cJSON_ArrayForEach(item, kube_field(list, "items")) {
		if (pod_has_ended(item) || kube_text(item, "metadata.deletionTimestamp"))
			continue;
		n += label ? same_label(item, pod, label) : same_controller(item, pod);
	}
	return n ? n : 1;
}
