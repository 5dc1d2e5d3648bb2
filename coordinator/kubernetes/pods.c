#include "kubernetes/pods.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static bool is_address(const char *s)
{
	unsigned char bytes[16];

	return s && (inet_pton(AF_INET, s, bytes) == 1 || inet_pton(AF_INET6, s, bytes) == 1);
}

char **pod_addresses(const cJSON *pod)
{
	char **list = NULL;
	const cJSON *item;
	const char *first = kube_text(pod, "status.podIP");

	cJSON_ArrayForEach(item, kube_field(pod, "status.podIPs"))
	{
		const char *ip = kube_text(item, "ip");

		if (is_address(ip) && !strv_contains(list, ip))
			strv_push(&list, strdup(ip));
	}
	/* Before 1.16 there was one alone. */
	if (is_address(first) && !strv_contains(list, first))
		strv_push(&list, strdup(first));
	return list;
}

/* While its node cannot be asked, what is told of it is old: only a pod that was never bound to a node, or one whose
 * kubelet says that it waits for its first start, has not run. */
bool pod_has_run(const cJSON *pod)
{
	const cJSON *statuses = kube_field(pod, "status.containerStatuses"), *c;

	if (!kube_text(pod, "spec.nodeName"))
		return false;
	if (!cJSON_GetArraySize(statuses))
		return true;
	cJSON_ArrayForEach(c, statuses)
	{
		const cJSON *restarts = json_get(c, "restartCount");

		if (!kube_field(c, "state.waiting") || kube_field(c, "lastState.terminated") ||
			(cJSON_IsNumber(restarts) && restarts->valuedouble > 0))
			return true;
	}
	return false;
}

bool pod_on_host_network(const cJSON *pod)
{
	return cJSON_IsTrue(kube_field(pod, "spec.hostNetwork"));
}

static const cJSON *condition(const cJSON *pod, const char *type)
{
	const cJSON *c;

	cJSON_ArrayForEach(c, kube_field(pod, "status.conditions"))
	{
		const char *t = kube_text(c, "type");

		if (t && strcmp(t, type) == 0)
			return c;
	}
	return NULL;
}

/* The first container that waits or ended, and why. */
static char *container_trouble(const cJSON *pod)
{
	const cJSON *c;

	cJSON_ArrayForEach(c, kube_field(pod, "status.containerStatuses"))
	{
		const char *why = kube_text(c, "state.waiting.reason"), *name = kube_text(c, "name");
		char *text = NULL;

		if (!why)
			why = kube_text(c, "state.terminated.reason");
		if (!why)
			continue;
		if (asprintf(&text, "container %s: %s", name ? name : "?", why) < 0)
			abort();
		return text;
	}
	return NULL;
}

char *pod_unready(const cJSON *pod)
{
	const cJSON *ready = condition(pod, "Ready");
	const char *status = kube_text(ready, "status"), *words = kube_text(ready, "message");
	const char *phase = kube_text(pod, "status.phase");
	char *text;

	if (kube_text(pod, "metadata.deletionTimestamp"))
		return strdup("it is being deleted");
	if (status && strcmp(status, "True") == 0)
		return NULL;
	text = container_trouble(pod);
	if (!text && !words)
		words = kube_text(condition(pod, "PodScheduled"), "message");
	if (!text && asprintf(&text, "not ready (%s)", words ? words : phase ? phase : "unknown") < 0)
		abort();
	return text;
}
