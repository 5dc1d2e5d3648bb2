#include "kubeapi/pods.h"

#include <stdio.h>
#include <string.h>
#include "instance/kubernetes.h"

/* CloudNativePG; Crunchy; StackGres; Zalando, and Patroni's own default for its scope (kubernetes.scope_label). */
static const char *const cluster_labels[] = {
	"cnpg.io/cluster", "postgres-operator.crunchydata.com/cluster", "stackgres.io/cluster-name",
	"cluster-name",
};

char *pods_path(const char *node_name)
{
	return kube_path("/api/v1/pods?fieldSelector=%s%s", "spec.nodeName=", node_name);
}

/* The API server's twin of a static pod has a UID of its own; the kubelet's is an annotation. */
static bool is_pod(const cJSON *pod, const struct instance_info *i)
{
	const char *twin = kube_annotation(pod, "kubernetes.io/config.mirror");

	return strcmp(kube_uid(pod), i->pod_uid) == 0 || (twin && strcmp(twin, i->pod_uid) == 0);
}

static const char *cluster_label(const cJSON *pod)
{
	for (size_t k = 0; k < ELEMENTS(cluster_labels); k++) {
		const char *value = kube_label(pod, cluster_labels[k]);

		if (value && *value)
			return value;
	}
	return NULL;
}

/* By label; else PostgreSQL's own name stays; else the StatefulSet's. */
static void describe_cluster(const cJSON *pod, struct instance_info *i)
{
	static const char set[] = "StatefulSet/";
	const char *value = cluster_label(pod);
	char *name;

	if (!value && !i->cluster_name && i->owner && strncmp(i->owner, set, strlen(set)) == 0)
		value = i->owner + strlen(set);
	if (!value || asprintf(&name, "%s/%s", i->namespace, value) < 0)
		return;
	free(i->cluster);
	i->cluster = name;
}

static void describe_labels(const cJSON *pod, struct instance_info *i)
{
	const cJSON *label;

	strv_free(i->labels);
	i->labels = NULL;
	cJSON_ArrayForEach(label, kube_field(pod, "metadata.labels")) {
		char *text;

		if (label->string && cJSON_IsString(label) &&
		    asprintf(&text, "%s=%s", label->string, label->valuestring) >= 0)
			strv_push(&i->labels, text);
	}
}

static void describe_owner(const cJSON *pod, struct instance_info *i)
{
	const cJSON *owner;

	cJSON_ArrayForEach(owner, kube_field(pod, "metadata.ownerReferences")) {
		const char *kind = kube_text(owner, "kind"), *name = kube_text(owner, "name");
		char *text;

		if (!kind || !name || !cJSON_IsTrue(kube_field(owner, "controller")) ||
		    asprintf(&text, "%s/%s", kind, name) < 0)
			continue;
		free(i->owner);
		i->owner = text;
		return;
	}
}

static void describe_container(const cJSON *pod, struct instance_info *i)
{
	const cJSON *status;
	char id[CONTAINER_ID_MAX];

	if (!i->cgroup || !kubernetes_container_id(i->cgroup, id))
		return;
	cJSON_ArrayForEach(status, kube_field(pod, "status.containerStatuses")) {
		const char *name = kube_text(status, "name"), *theirs = kube_text(status, "containerID");
		const char *at = theirs ? strstr(theirs, "://") : NULL;

		if (!name || !at || strcmp(at + 3, id) != 0)
			continue;
		free(i->container);
		i->container = strdup(name);
		return;
	}
}

void pod_describe(const cJSON *pod, struct instance_info *i)
{
	describe_labels(pod, i);
	describe_owner(pod, i);
	describe_container(pod, i);
	describe_cluster(pod, i);
}

void pods_describe(const struct kube_watch *pods, struct instance_info *i)
{
	if (!i->pod_uid || !i->namespace)
		return;
	for (size_t k = 0; k < kube_watch_count(pods); k++) {
		const cJSON *pod = kube_watch_object(pods, k);

		if (is_pod(pod, i)) {
			pod_describe(pod, i);
			return;
		}
	}
}
