/* PostgreSQL in a StatefulSet with no manager that pgjolt knows: members are its pods, roles are what the
 * instances themselves are (manager/plain.c), and Kubernetes tells of readiness, ends and restarts. */
#pragma once

#include "manager/pod.h"

extern const struct manager_driver manager_statefulset;

/* The state of each member that is a pod, and members for pods in which no PostgreSQL runs. */
void statefulset_add_pods(struct cluster_view *v, const struct pod *pods, size_t n_pods,
	const char *owner);
