/* In Kubernetes: no member of the cluster may be out of our sight. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kubernetes/pods.h"
#include "run/run.h"

static bool is_owned_by(const cJSON *pod, const char *name)
{
	const cJSON *owner;

	cJSON_ArrayForEach(owner, kube_field(pod, "metadata.ownerReferences"))
	{
		const char *kind = kube_text(owner, "kind"), *own = kube_text(owner, "name");

		if (kind && own && strcmp(kind, "StatefulSet") == 0 && strcmp(own, name) == 0)
			return true;
	}
	return false;
}

static bool is_target(const struct run *r, const cJSON *pod)
{
	for (size_t i = 0; i < r->cluster.targets.count; i++) {
		const struct instance_info *n = r->cluster.targets.items[i].info;

		if (n->pod && strcmp(n->pod, kube_name(pod)) == 0)
			return true;
	}
	return false;
}

/* NULL: its node has an agent that answers. Caller frees. */
static char *why_unseen(const struct session *s, const char *node)
{
	char *why = NULL;

	for (size_t i = 0; i < s->n_links; i++)
		if (strcmp(agent_link_name(s->links[i]), node) == 0)
			return NULL;
	for (size_t i = 0; i < s->n_missing; i++)
		if (strcmp(s->missing[i].node, node) == 0) {
			if (asprintf(&why, "its agent does not answer (pod %s: %s)", s->missing[i].pod,
				    s->missing[i].why) < 0)
				abort();
			return why;
		}
	return strdup("it has no agent (the DaemonSet's tolerations?)");
}

int run_guard_agents(const struct run *r, struct err **err)
{
	const char *slash = strchr(r->cluster.name, '/');
	_cleanup_free_ char *namespace = slash ? strndup(r->cluster.name,
							 (size_t)(slash - r->cluster.name)) :
						 NULL;
	_cleanup_free_ char *path = NULL;
	_cleanup_json_ cJSON *pods = NULL;
	const cJSON *pod;
	int k;

	if (!r->session->kube || !slash)
		return 0;
	path = kube_path("/api/v1/namespaces/%s/pods", namespace);
	k = kube_list(r->session->kube, path, &pods, err);
	if (k < 0)
		return err_wrap(err, k, "members of cluster %s", r->cluster.name);
	cJSON_ArrayForEach(pod, pods)
	{
		const char *cluster = pod_cluster(pod), *node = kube_text(pod, "spec.nodeName");
		bool member = cluster ? pod_is_member(pod) && strcmp(cluster, slash + 1) == 0 :
					is_owned_by(pod, slash + 1);
		_cleanup_free_ char *why = NULL;

		if (!member || !node || pod_has_ended(pod) || is_target(r, pod))
			continue;
		why = why_unseen(r->session, node);
		if (why)
			return err_set(err, -EPERM,
				"pod %s of cluster %s runs on node %s, which is out of our sight: %s",
				kube_name(pod), r->cluster.name, node, why);
	}
	return 0;
}
