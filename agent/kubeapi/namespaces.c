#include "kubeapi/namespaces.h"

#include <fnmatch.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"

#define LABEL	     "pgjolt.io/enabled"
#define FAULTS	     "pgjolt.io/faults"
#define MAX_DURATION "pgjolt.io/max-duration"

static bool list_matches(const char *list, const char *fault)
{
	_cleanup_free_ char *copy = strdup(list);
	char *save = NULL;

	for (char *word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save))
		if (fnmatch(word, fault, 0) == 0)
			return true;
	return false;
}

int namespace_check_bounds(const cJSON *namespace, const struct arm_request *request, struct err **err)
{
	const char *faults = kube_annotation(namespace, FAULTS);
	const char *most = kube_annotation(namespace, MAX_DURATION);
	const char *name = kube_name(namespace);
	char given[UNITS_TEXT_MAX];
	uint64_t most_ns;
	int r;

	if (faults && !list_matches(faults, request->fault))
		return err_set(err, EPERM,
			"fault %s is not among those that namespace %s allows (annotation " FAULTS
			": \"%.200s\")", request->fault, name, faults);
	if (!most)
		return 0;
	/* A bound that cannot be read lets nothing in. */
	r = duration_parse(most, &most_ns, err);
	if (r < 0)
		return err_wrap(err, EPERM, "namespace %s, annotation " MAX_DURATION, name);
	if (request->duration_ms > most_ns / NS_PER_MS)
		return err_set(err, EPERM,
			"duration: %s is above namespace %s's limit (annotation " MAX_DURATION ": \"%s\")",
			request->duration_ms > UINT64_MAX / NS_PER_MS ? "that" :
			duration_format(request->duration_ms * NS_PER_MS, given), name, most);
	return 0;
}

int namespaces_check(const struct kube_watch *namespaces, const struct instance_info *i,
	const struct arm_request *request, struct err **err)
{
	if (!i->namespace)
		return err_set(err, EPERM,
			"instance %s is in no pod, and this agent takes targets in namespaces that opted in "
			"alone", i->name);
	for (size_t k = 0; k < kube_watch_count(namespaces); k++) {
		const cJSON *namespace = kube_watch_object(namespaces, k);

		if (strcmp(kube_name(namespace), i->namespace) == 0)
			return namespace_check_bounds(namespace, request, err);
	}
	return err_set(err, EPERM, "namespace %s has not opted in: kubectl label namespace %s " LABEL
		"=true", i->namespace, i->namespace);
}
