#include "kube/stop_switch.h"

#include <string.h>
#include <strings.h>
#include "kube/kube.h"

#define REASON_MAX 200

#define WORDS "the kill switch (ConfigMap %s/%s) is on"

static const char *const off[] = {"", "false", "no", "off", "0"};

char *stop_switch_path(const char *namespace, const char *name)
{
	return kube_path("/api/v1/namespaces/%s/configmaps?fieldSelector=%s%s", namespace,
		"metadata.name=", name);
}

bool stop_switch_is_on(const cJSON *config_map)
{
	const char *stop = kube_text(config_map, "data.stop");

	for (size_t i = 0; stop && i < ELEMENTS(off); i++)
		if (strcasecmp(stop, off[i]) == 0)
			return false;
	return stop != NULL;
}

char *stop_switch_words(const cJSON *config_map)
{
	const char *reason = kube_text(config_map, "data.reason");
	char *words;

	if (asprintf(&words, WORDS "%s%.*s", kube_namespace(config_map),
		    kube_name(config_map), reason && *reason ? ": " : "", REASON_MAX,
		    reason ? reason : "") < 0)
		abort();
	for (char *p = words; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	return words;
}

bool stop_switch_is_reason(const char *reason, const char *namespace, const char *name)
{
	_cleanup_free_ char *words = NULL;

	if (asprintf(&words, WORDS, namespace, name) < 0)
		abort();
	return reason && strncmp(reason, words, strlen(words)) == 0;
}
