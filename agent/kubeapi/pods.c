#include "kubeapi/pods.h"

#include <stdio.h>
#include <string.h>
#include "instance/kubernetes.h"
#include "kube/pod.h"

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

/* By label; else PostgreSQL's own name stays; else the StatefulSet's. */
static void describe_cluster(const cJSON *pod, struct instance_info *i)
{
	static const char set[] = "StatefulSet/";
	const char *value = pod_cluster(pod);
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
	const char *name, *kind = pod_controller(pod, &name);
	char *text;

	if (!kind || asprintf(&text, "%s/%s", kind, name) < 0)
		return;
	free(i->owner);
	i->owner = text;
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

const cJSON *pods_find(const struct kube_watch *pods, const struct instance_info *i)
{
	if (!i->pod_uid || !i->namespace)
		return NULL;
	for (size_t k = 0; k < kube_watch_count(pods); k++)
		if (is_pod(kube_watch_object(pods, k), i))
			return kube_watch_object(pods, k);
	return NULL;
}

void pods_describe(const struct kube_watch *pods, struct instance_info *i)
{
	const cJSON *pod = pods_find(pods, i);

	if (pod)
		pod_describe(pod, i);
}
