/* The agents of a Kubernetes cluster: the pods of the DaemonSet, found by their labels. */
#pragma once

#include "kube/kube.h"

#define AGENTS_NAMESPACE_DEFAULT "pgjolt"
#define AGENT_PORT_DEFAULT 7420
/* The name in the agents' certificate, which is one for all: pods' addresses come and go. */
#define AGENT_SERVER_NAME "pgjolt-agent"
#define AGENT_SELECTOR "app.kubernetes.io/name=pgjolt,app.kubernetes.io/component=agent"

struct kube_agent {
	char *pod;
	char *node;	/* "" while it is not scheduled */
	char *url;	/* "https://10.0.0.1:7420"; NULL: it has no address (yet) */
	char *why;	/* it is not ready; NULL: it is */
	bool never_ran;	/* none of its containers has ever been started */
};

struct kube_agents {
	struct kube_agent *items;
	size_t count;
};
void kube_agents_done(struct kube_agents *a);

/* From the items of a list of pods; ordered by node. Pods that have ended are left out. */
void kube_agents_of_pods(const cJSON *pods, struct kube_agents *ret);
/* -ESRCH: there is none at all in that namespace. */
int kube_agents_list(struct kube *k, const char *namespace, struct kube_agents *ret,
	struct err **err);
