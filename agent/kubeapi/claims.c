#include "kubeapi/claims.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kube/kube.h"
#include "kubeapi/share.h"

#define ANNOTATION "pgjolt.io/claims"
#define CLUSTER "pgjolt.io/cluster"
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

int claims_read(const cJSON *lease, struct claims *ret, struct err **err)
{
	const char *text = kube_annotation(lease, ANNOTATION);
	_cleanup_json_ cJSON *list = NULL;
	struct claims c = {0};
	int r = 0;

	if (text) {
		r = json_parse(text, strlen(text), &list, err);
		if (r >= 0)
			r = claims_parse(list, &c, err);
	}
	if (r < 0) {
		claims_done(&c);
		return err_wrap(err, EBADMSG, "annotation " ANNOTATION " of Lease %s/%s", kube_namespace(lease),
			kube_name(lease));
	}
	*ret = c;
	return 0;
}

const char *claims_cluster(const cJSON *lease)
{
	return kube_annotation(lease, CLUSTER);
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

static void set_claims(cJSON *metadata, const struct claims *c)
{
	cJSON *annotations = cJSON_GetObjectItemCaseSensitive(metadata, "annotations");
	_cleanup_free_ char *text = claims_text(c);

	if (!annotations) {
		annotations = json_object();
		json_add_item(metadata, "annotations", annotations);
	}
	cJSON_DeleteItemFromObjectCaseSensitive(annotations, ANNOTATION);
	json_add_string(annotations, ANNOTATION, text);
}

cJSON *claims_lease_new(const char *namespace, const char *name, const char *cluster, const struct claims *c)
{
	cJSON *lease = json_object(), *metadata = json_object(), *labels = json_object();
	cJSON *annotations = json_object();

	json_add_string(lease, "apiVersion", "coordination.k8s.io/v1");
	json_add_string(lease, "kind", "Lease");
	json_add_item(lease, "metadata", metadata);
	json_add_item(lease, "spec", json_object());
	json_add_string(metadata, "namespace", namespace);
	json_add_string(metadata, "name", name);
	json_add_item(metadata, "labels", labels);
	json_add_string(labels, "app.kubernetes.io/name", "pgjolt");
	json_add_string(labels, SHARE_LABEL, SHARE_LABEL_VALUE);
	json_add_item(metadata, "annotations", annotations);
	json_add_string(annotations, CLUSTER, cluster);
	set_claims(metadata, c);
	return lease;
}

cJSON *claims_lease_with(const cJSON *lease, const struct claims *c)
{
	cJSON *copy = cJSON_Duplicate(lease, true);
	cJSON *metadata = cJSON_GetObjectItemCaseSensitive(copy, "metadata");

	if (!copy)
		abort();
	cJSON_DeleteItemFromObjectCaseSensitive(metadata, "managedFields");
	set_claims(metadata, c);
	return copy;
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
