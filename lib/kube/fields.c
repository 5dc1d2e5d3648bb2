#include <string.h>

#include "kube/kube.h"

const cJSON *kube_field(const cJSON *object, const char *path)
{
	char name[128];

	while (object && *path) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = 0;
		object = cJSON_IsObject(object) ? json_get(object, name) : NULL;
		path += n + (path[n] == '.');
	}
	return object;
}

static const char *text_of(const cJSON *item)
{
	return cJSON_IsString(item) ? item->valuestring : NULL;
}

const char *kube_text(const cJSON *object, const char *path)
{
	return text_of(kube_field(object, path));
}

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

const char *kube_name(const cJSON *object)
{
	return or_empty(kube_text(object, "metadata.name"));
}

const char *kube_namespace(const cJSON *object)
{
	return or_empty(kube_text(object, "metadata.namespace"));
}

const char *kube_uid(const cJSON *object)
{
	return or_empty(kube_text(object, "metadata.uid"));
}

/* A key has dots of its own ("cnpg.io/cluster"). */
static const char *metadata_entry(const cJSON *object, const char *map, const char *key)
{
	const cJSON *entries = kube_field(object, map);

	return cJSON_IsObject(entries) ? text_of(json_get(entries, key)) : NULL;
}

const char *kube_label(const cJSON *object, const char *key)
{
	return metadata_entry(object, "metadata.labels", key);
}

const char *kube_annotation(const cJSON *object, const char *key)
{
	return metadata_entry(object, "metadata.annotations", key);
}
