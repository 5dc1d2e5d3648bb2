#include "kubernetes/agents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kubernetes/pods.h"

void kube_agents_done(struct kube_agents *a)
{
	for (size_t i = 0; i < a->count; i++) {
		free(a->items[i].pod);
		free(a->items[i].node);
		free(a->items[i].url);
		free(a->items[i].why);
	}
	free(a->items);
	*a = (struct kube_agents){0};
}

/* The container port named "agent". */
static unsigned agent_port(const cJSON *pod)
{
	const cJSON *container, *port;

	cJSON_ArrayForEach(container, kube_field(pod, "spec.containers"))
	{
		cJSON_ArrayForEach(port, json_get(container, "ports"))
		{
			const char *name = kube_text(port, "name");
			const cJSON *number = json_get(port, "containerPort");

			if (name && strcmp(name, "agent") == 0 && cJSON_IsNumber(number) &&
				number->valueint > 0 && number->valueint < 65536)
				return (unsigned)number->valueint;
		}
	}
	return AGENT_PORT_DEFAULT;
}

static int agent_compare(const void *a, const void *b)
{
	const struct kube_agent *x = a, *y = b;
	int by_node = strcmp(x->node, y->node);

	return by_node ? by_node : strcmp(x->pod, y->pod);
}

static struct kube_agent agent_of(const cJSON *pod)
{
	_cleanup_strv_ char **addresses = pod_addresses(pod);
	const char *node = kube_text(pod, "spec.nodeName");
	struct kube_agent a = {.pod = strdup(kube_name(pod)), .node = strdup(node ? node : "")};

	a.why = pod_unready(pod);
	a.never_ran = !pod_has_run(pod);
	if (!a.why && !addresses)
		a.why = strdup("it has no address");
	if (addresses && asprintf(&a.url, strchr(addresses[0], ':') ? "https://[%s]:%u" : "https://%s:%u",
		    addresses[0], agent_port(pod)) < 0)
		abort();
	return a;
}

void kube_agents_of_pods(const cJSON *pods, struct kube_agents *ret)
{
	struct kube_agents a = {0};
	const cJSON *pod;

	a.items = calloc((size_t)cJSON_GetArraySize(pods) + 1, sizeof(*a.items));
	if (!a.items)
		abort();
	cJSON_ArrayForEach(pod, pods)
		if (!pod_has_ended(pod))
			a.items[a.count++] = agent_of(pod);
	qsort(a.items, a.count, sizeof(*a.items), agent_compare);
	*ret = a;
}

int kube_agents_list(struct kube *k, const char *namespace, struct kube_agents *ret,
	struct err **err)
{
	_cleanup_free_ char *path = kube_path("/api/v1/namespaces/%s/pods?labelSelector=%s", namespace,
		AGENT_SELECTOR);
	_cleanup_json_ cJSON *pods = NULL;
	int r = kube_list(k, path, &pods, err);

	if (r < 0)
		return err_wrap(err, r, "agents in namespace %s", namespace);
	kube_agents_of_pods(pods, ret);
	if (ret->count)
		return 0;
	kube_agents_done(ret);
	return err_set(err, -ESRCH,
		"no agent runs in namespace %s (pods with %s): install pgjolt there, or say where it is "
		"with --agents-namespace",
		namespace, AGENT_SELECTOR);
}
