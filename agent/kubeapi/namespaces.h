/*
 * Namespaces opt in by the label pgjolt.io/enabled=true, and may have bounds of their own by annotations:
 * pgjolt.io/faults ("net-partition, proc-*"), pgjolt.io/max-duration ("5m") and pgjolt.io/max-share ("50%").
 */
#pragma once

#include "core/wire.h"
#include "kube/kube.h"

/* Of the watch: those that opted in. */
#define NAMESPACES_PATH "/api/v1/namespaces?labelSelector=pgjolt.io%2Fenabled%3Dtrue"

/* Is the instance's namespace among those, and does it let this request in? -EPERM. */
int namespaces_check(const struct kube_watch *namespaces, const struct instance_info *i,
	const struct arm_request *request, struct err **err);
/* What one namespace's annotations say. */
int namespace_check_bounds(const cJSON *namespace, const struct arm_request *request, struct err **err);
/* The share of a cluster that may be under fault there, in ppm, where it is below *ppm; *ret_text is the annotation then
 * (borrowed), else untouched. -EPERM: it cannot be read. */
int namespaces_share(const struct kube_watch *namespaces, const char *name, uint32_t *ppm, const char **ret_text,
	struct err **err);
int namespace_share(const cJSON *namespace, uint32_t *ppm, const char **ret_text, struct err **err);
