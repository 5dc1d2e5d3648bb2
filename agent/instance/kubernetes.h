/*
 * A pod's name without the Kubernetes API: its UID is in the cgroup path, and the kubelet keeps the
 * logs of NAMESPACE/POD in /var/log/pods/NAMESPACE_POD_UID/
 * (pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory).
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"

#define POD_UID_MAX 37	/* with its NUL */

/*
 * From ".../kubepods/burstable/podUID/ID" (cgroupfs driver) or
 * ".../kubepods-burstable-podUID.slice/cri-containerd-ID.scope" (systemd driver, "_" for "-").
 * Whatever stands before "kubepods" is skipped. The UID of a static pod is 32 hex digits.
 */
bool kubernetes_pod_uid(const char *cgroup, char ret[static POD_UID_MAX]);

/* log_roots: NULL-terminated folders to look in; NULL: the node's /var/log/pods, also as PID 1 sees
 * it. -ENOENT if none has it. Caller frees both. */
int kubernetes_pod_name(const char *uid, const char *const *log_roots, char **ret_namespace,
	char **ret_pod, struct err **err);
