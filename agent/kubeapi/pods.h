/* The pods of this node, by a watch. */
#pragma once

#include "core/wire.h"
#include "kube/kube.h"

/* The path of the watch; caller frees. */
char *pods_path(const char *node_name);
/* The pod of i->pod_uid among those of the watch; NULL: not there. Borrowed until the loop runs. */
const cJSON *pods_find(const struct kube_watch *pods, const struct instance_info *i);
/* From the pod of i->pod_uid among those of the watch: container, labels, owner ("StatefulSet/main"), and
 * cluster, where a label of an operator or of Patroni names one. Leaves what it finds nothing for. */
void pods_describe(const struct kube_watch *pods, struct instance_info *i);
/* The same from one pod. */
void pod_describe(const cJSON *pod, struct instance_info *i);
