#include "kubeapi/namespaces.h"

#include <fnmatch.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"

#define LABEL	     "pgjolt.io/enabled"
#define FAULTS	     "pgjolt.io/faults"
#define MAX_DURATION "pgjolt.io/max-duration"
#define MAX_SHARE    "pgjolt.io/max-share"

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

int namespace_share(const cJSON *namespace, uint32_t *ppm, const char **ret_text, struct err **err)
{
	const char *text = kube_annotation(namespace, MAX_SHARE);
	uint32_t share_ppm;
	int r;

	if (!text)
		return 0;
	r = percent_parse(text, &share_ppm, err);
	if (r < 0)
		return err_wrap(err, EPERM, "namespace %s, annotation " MAX_SHARE, kube_name(namespace));
	if (share_ppm >= *ppm)
		return 0;
	*ppm = share_ppm;
	*ret_text = text;
	return 0;
}

static const cJSON *find(const struct kube_watch *namespaces, const char *name)
{
	for (size_t k = 0; k < kube_watch_count(namespaces); k++)
		if (strcmp(kube_name(kube_watch_object(namespaces, k)), name) == 0)
			return kube_watch_object(namespaces, k);
	return NULL;
}

int namespaces_share(const struct kube_watch *namespaces, const char *name, uint32_t *ppm, const char **ret_text,
	struct err **err)
{
	const cJSON *namespace = find(namespaces, name);

	return namespace ? namespace_share(namespace, ppm, ret_text, err) : 0;
}

int namespaces_check(const struct kube_watch *namespaces, const struct instance_info *i,
	const struct arm_request *request, struct err **err)
{
	const cJSON *namespace;

	if (!i->namespace)
		return err_set(err, EPERM,
			"instance %s is in no pod, and this agent takes targets in namespaces that opted in "
			"alone", i->name);
	namespace = find(namespaces, i->namespace);
	if (namespace)
		return namespace_check_bounds(namespace, request, err);
	return err_set(err, EPERM, "namespace %s has not opted in: kubectl label namespace %s " LABEL
		"=true", i->namespace, i->namespace);
}
