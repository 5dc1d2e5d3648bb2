#include "kubeapi/claims.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kube/kube.h"
#include "kubeapi/share.h"

#define CLUSTER_KEY "cluster"
#define CLAIMS_KEY "claims"
#define CLAIMS_MAX 4096
#define TIME_FORMAT "%Y-%m-%dT%H:%M:%SZ"
#define TIME_BYTES 32
#define UNTIL_MAX_S 7258118400	/* the year 2200: what is later was not written by an agent */

void claims_done(struct claims *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->items[i].instance);
		free(c->items[i].node);
	}
	free(c->items);
	*c = (struct claims){0};
}

static void time_write(int64_t s, char to[static TIME_BYTES])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(to, TIME_BYTES, TIME_FORMAT, &tm) == 0)
		snprintf(to, TIME_BYTES, "?");
}

static bool time_read(const char *text, int64_t *ret)
{
	struct tm tm = {0};
	const char *end = text ? strptime(text, TIME_FORMAT, &tm) : NULL;

	if (!end || *end)
		return false;
	*ret = timegm(&tm);
	return *ret >= 0 && *ret <= UNTIL_MAX_S;
}

static void claim_add(struct claims *c, const char *instance, const char *node, int64_t until_s)
{
	struct claim *items = reallocarray(c->items, c->count + 1, sizeof(*items));

	if (!items)
		abort();
	c->items = items;
	items[c->count] = (struct claim){strdup(instance), strdup(node), until_s};
	if (!items[c->count].instance || !items[c->count].node)
		abort();
	c->count++;
}

static int claims_parse(const cJSON *list, struct claims *ret, struct err **err)
{
	const cJSON *item;

	if (!cJSON_IsObject(list) || cJSON_GetArraySize(list) > CLAIMS_MAX)
		return err_set(err, EBADMSG, "it is no object of at most %d claims", CLAIMS_MAX);
	cJSON_ArrayForEach(item, list) {
		const char *node = kube_text(item, "node");
		int64_t until_s;

		if (!node || !time_read(kube_text(item, "until"), &until_s))
			return err_set(err, EBADMSG, "the claim on \"%.200s\" has no node or no end",
				item->string);
		if (!claims_find(ret, item->string))
			claim_add(ret, item->string, node, until_s);
	}
	return 0;
}

/*
 * Whoever may create ConfigMaps can have made this one beforehand. What would have somebody else end it under our
 * claims, or keep them out of it, is none of ours.
 */
static int check_made_by_us(const cJSON *map, struct err **err)
{
	static const char *const fields[] = {"metadata.ownerReferences", "metadata.finalizers",
		"metadata.deletionTimestamp", "immutable", "binaryData"};

	for (size_t i = 0; i < ELEMENTS(fields); i++)
		if (kube_field(map, fields[i]))
			return err_set(err, EBADMSG, "no agent made it: it has %s", fields[i]);
	return 0;
}

int claims_read(const cJSON *map, struct claims *ret, struct err **err)
{
	const cJSON *data = kube_field(map, "data." CLAIMS_KEY);
	_cleanup_json_ cJSON *list = NULL;
	struct claims c = {0};
	int r;

	if (!map) {
		*ret = c;
		return 0;
	}
	r = check_made_by_us(map, err);
	if (r >= 0 && !cJSON_IsString(data))
		r = err_set(err, EBADMSG, "no agent made it: its data has no \"" CLAIMS_KEY "\"");
	if (r >= 0)
		r = json_parse(data->valuestring, strlen(data->valuestring), &list, err);
	if (r >= 0)
		r = claims_parse(list, &c, err);
	if (r < 0) {
		claims_done(&c);
		return err_wrap(err, EBADMSG, "ConfigMap %.253s/%.253s", kube_namespace(map), kube_name(map));
	}
	*ret = c;
	return 0;
}

const char *claims_cluster(const cJSON *map)
{
	const char *cluster = kube_text(map, "data." CLUSTER_KEY);
	_cleanup_free_ char *name = cluster ? kube_cluster_object(CLAIMS_PREFIX, cluster) : NULL;

	return name && strcmp(name, kube_name(map)) == 0 ? cluster : NULL;
}

static char *claims_text(const struct claims *c)
{
	_cleanup_json_ cJSON *list = json_object();

	for (size_t i = 0; i < c->count; i++) {
		cJSON *item = json_object();
		char until[TIME_BYTES];

		time_write(c->items[i].until_s, until);
		json_add_string(item, "node", c->items[i].node);
		json_add_string(item, "until", until);
		json_add_item(list, c->items[i].instance, item);
	}
	return json_print(list);
}

cJSON *claims_map(const char *namespace, const char *name, const char *cluster, const struct claims *c,
	const cJSON *before)
{
	cJSON *map = json_object(), *metadata = json_object(), *labels = json_object(), *data = json_object();
	_cleanup_free_ char *text = claims_text(c);

	json_add_string(map, "apiVersion", "v1");
	json_add_string(map, "kind", "ConfigMap");
	json_add_item(map, "metadata", metadata);
	json_add_item(map, "data", data);
	json_add_string(metadata, "namespace", namespace);
	json_add_string(metadata, "name", name);
	if (before) {
		json_add_string(metadata, "uid", kube_uid(before));
		json_add_string(metadata, "resourceVersion", kube_text(before, "metadata.resourceVersion"));
	}
	json_add_item(metadata, "labels", labels);
	json_add_string(labels, "app.kubernetes.io/name", "pgjolt");
	json_add_string(labels, SHARE_LABEL, SHARE_LABEL_VALUE);
	json_add_string(data, CLUSTER_KEY, cluster);
	json_add_string(data, CLAIMS_KEY, text);
	return map;
}

static void claim_remove(struct claims *c, size_t i)
{
	free(c->items[i].instance);
	free(c->items[i].node);
	c->items[i] = c->items[--c->count];
}

size_t claims_expire(struct claims *c, int64_t now_s)
{
	size_t n = 0;

	for (size_t i = c->count; i-- > 0;) {
		if (c->items[i].until_s >= now_s - CLAIM_SLACK_S)
			continue;
		claim_remove(c, i);
		n++;
	}
	return n;
}

static struct claim *find(const struct claims *c, const char *instance)
{
	for (size_t i = 0; i < c->count; i++)
		if (strcmp(c->items[i].instance, instance) == 0)
			return &c->items[i];
	return NULL;
}

const struct claim *claims_find(const struct claims *c, const char *instance)
{
	return find(c, instance);
}

bool claims_put(struct claims *c, const char *instance, const char *node, int64_t until_s)
{
	struct claim *known = find(c, instance);

	if (!known) {
		claim_add(c, instance, node, until_s);
		return true;
	}
	/* A pod of the same name on another node is another pod, and the one before is no more. */
	if (strcmp(known->node, node) == 0 && known->until_s >= until_s)
		return false;
	free(known->node);
	known->node = strdup(node);
	if (!known->node)
		abort();
	known->until_s = until_s;
	return true;
}

bool claims_drop(struct claims *c, const char *instance, const char *node)
{
	struct claim *known = find(c, instance);

	if (!known || strcmp(known->node, node) != 0)
		return false;
	claim_remove(c, (size_t)(known - c->items));
	return true;
}

char *claims_words(const struct claims *c)
{
	char *words, until[TIME_BYTES], more[48] = "";

	if (c->count == 0)
		return NULL;
	time_write(c->items[0].until_s, until);
	if (c->count > 1)
		snprintf(more, sizeof(more), ", and %zu more", c->count - 1);
	if (asprintf(&words, "%.300s on node %.253s until %s%s", c->items[0].instance, c->items[0].node, until,
		    more) < 0)
		abort();
	return words;
}
