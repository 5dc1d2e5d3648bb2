/*
 * A pod's and a container's name without the Kubernetes API. The pod's UID and the container's id are in
 * the cgroup path. The kubelet keeps the logs of NAMESPACE/POD in /var/log/pods/NAMESPACE_POD_UID/
 * (pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory), in a folder for each container,
 * and a link for each, POD_NAMESPACE_CONTAINER-ID.log, in /var/log/containers (legacy.go there).
 *
 * A path is that of any hierarchy, v2 or v1, of either cgroup driver and any runtime:
 *   /kubepods/burstable/podUID/ID					cgroupfs; Guaranteed has no "burstable"
 *   /kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope
 *								systemd, "_" for "-"; also crio-ID, docker-ID
 *   /system.slice/containerd.service/kubepods-podUID.slice:cri-containerd:ID
 *								containerd that took the one for the other
 * Whatever stands before "kubepods" is skipped (a kubelet's --cgroup-root, kind's nodes). What is seen
 * from a cgroup namespace below may begin with "/.." and lack it. The UID of a static pod is 32 hex digits.
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"

#define POD_UID_MAX	 37	/* with its NUL */
#define CONTAINER_ID_MAX 65

bool kubernetes_pod_uid(const char *cgroup, char ret[static POD_UID_MAX]);
/* 64 hex digits: the whole id. */
bool kubernetes_container_id(const char *cgroup, char ret[static CONTAINER_ID_MAX]);

/* log_roots: NULL-terminated folders to look in; NULL: the node's /var/log/pods, also as PID 1 sees
 * it. -ENOENT if none has it. Caller frees both. */
int kubernetes_pod_name(const char *uid, const char *const *log_roots, char **ret_namespace,
	char **ret_pod, struct err **err);

/* log_roots: folders that hold "pods" and "containers"; NULL: the node's /var/log. By the link of this id;
 * else by the log that is one (docker's); else, where the pod has one container only, it is that. -ENOENT.
 * Caller frees. */
int kubernetes_container_name(const char *namespace, const char *pod, const char *uid, const char *id,
	const char *const *log_roots, char **ret, struct err **err);
