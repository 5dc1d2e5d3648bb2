/* An API server by script for whole managers: its objects are those of a step of a failover, chosen by the
 * request's selectors as a real one does. */
#pragma once

#include "../kube/server.h"
#include "data.h"

#include <stdatomic.h>

#include "manager/kube_manager.h"

#define LIMIT_NS (20 * NS_PER_S)
#define UNUSED __attribute__((unused))

static cJSON *data;
static _Atomic(int) step;
static _Atomic(bool) refuse_events;
static _Atomic(bool) old_operator;	/* of CloudNativePG: neither quorum nor lease */
static _Atomic(const char *) holder;	/* of the primary's lease; NULL: there is no lease */
static _Atomic(int) holder_version;
static char told[8192], texts[16384];
static struct cluster_view *seen;

/* ---- what it has ---- */

static const cJSON *step_now(void)
{
	return cJSON_GetArrayItem(json_get(data, "steps"), step);
}

static void add_version(cJSON *items, const cJSON *object, int version_number)
{
	cJSON *copy = cJSON_IsObject(object) ? cJSON_Duplicate(object, true) : NULL;
	char version[16];

	if (!copy)
		return;
	snprintf(version, sizeof(version), "%d", version_number);
	cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItem(copy, "metadata"), "resourceVersion");
	cJSON_AddStringToObject(cJSON_GetObjectItem(copy, "metadata"), "resourceVersion", version);
	cJSON_AddItemToArray(items, copy);
}

/* Each step is a version of its own, read before what it is of: the step may change in between, and a
 * new version of the old thing would hide the new one. */
static void add(cJSON *items, const char *key)
{
	int version = step + 1;
	const cJSON *object = json_get(step_now(), key), *item;

	if (!cJSON_IsArray(object))
		add_version(items, object, version);
	else
		cJSON_ArrayForEach(item, object)
			add_version(items, item, version);
}

static void add_text(cJSON *items, int version, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add_text(cJSON *items, int version, const char *fmt, ...)
{
	_cleanup_json_ cJSON *json = NULL;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	add_version(items, json, version);
}

static void add_event(cJSON *items, const char *name, const char *kind, const char *about, const char *reason)
{
	add_text(items, 1, "{\"metadata\": {\"name\": \"%s\", \"namespace\": \"shop\", \"uid\": \"%s\"},"
		"\"reason\": \"%s\", \"message\": \"words\", \"involvedObject\": {\"kind\": \"%s\", \"name\": \"%s\"}}",
		name, name, reason, kind, about);
}

static void add_events(cJSON *items)
{
	add_event(items, "old", "Cluster", "main", "Old");
	if (step < 2)
		return;
	add_event(items, "e1", "Cluster", "main", "FailingOver");
	add_event(items, "e2", "Pod", "main-1", "Unhealthy");
	add_event(items, "e3", "Pod", "of-somebody-else", "Unhealthy");
}

static void add_lease(cJSON *items)
{
	int version = holder_version;
	const char *who = holder;

	if (who)
		add_text(items, version, "{\"metadata\": {\"name\": \"main\", \"namespace\": \"shop\"},"
			"\"spec\": {\"holderIdentity\": %s%s%s, \"leaseDurationSeconds\": 15}}",
			*who == '{' ? "" : "\"", who, *who == '{' ? "" : "\"");
}

static void add_items(cJSON *items, const char *path)
{
	static const struct {
		const char *resource, *key;
	} kept[] = {{"/pods", "pods"}, {"/clusters?", "cluster"}, {"/failoverquorums?", "quorum"},
		{"/endpoints?", "leader"}, {"/endpoints?", "config"}, {"/endpoints?", "sync"},
		{"/endpoints?", "endpoints"}, {"/postgresclusters?", "operator"},
		{"/sgclusters?", "operator"}, {"/postgresqls?", "operator"}};

	for (size_t i = 0; i < ELEMENTS(kept); i++)
		if (strstr(path, kept[i].resource))
			add(items, kept[i].key);
	if (strstr(path, "/leases?"))
		add_lease(items);
	if (strstr(path, "/events"))
		add_events(items);
}

/* ---- what was asked for ---- */

/* The value of a key of the query, decoded; NULL: it is not there. Caller frees. */
static char *query_value(const char *path, const char *key)
{
	const char *from = strstr(path, key);
	char *out, *to;

	if (!from)
		return NULL;
	from += strlen(key);
	out = to = strdup(from);
	while (*from && *from != '&' && *from != ' ') {
		unsigned byte;

		if (*from == '%' && sscanf(from + 1, "%2x", &byte) == 1) {
			*to++ = (char)byte;
			from += 3;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
	return out;
}

/* "a=b,c": c is there. */
static bool has_labels(const cJSON *object, const char *selector)
{
	_cleanup_free_ char *copy = strdup(selector);
	char *save = NULL;

	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *equal = strchr(word, '=');
		const char *value;

		if (equal)
			*equal = '\0';
		value = kube_label(object, word);
		if (!value || (equal && strcmp(value, equal + 1) != 0))
			return false;
	}
	return true;
}

static void keep_what_was_asked_for(cJSON *items, const char *path)
{
	_cleanup_free_ char *labels = query_value(path, "labelSelector=");
	_cleanup_free_ char *fields = query_value(path, "fieldSelector=metadata.name%3D");
	cJSON *item = items->child, *next;

	cr_assert(fields || !strstr(path, "fieldSelector="), "no such selector: %s", path);
	for (; item; item = next) {
		next = item->next;
		if ((labels && !has_labels(item, labels)) || (fields && strcmp(kube_name(item), fields) != 0))
			cJSON_Delete(cJSON_DetachItemViaPointer(items, item));
	}
}

/* Watches are told that their version is too old, so what is known is listed anew. */
static void serve(int fd, unsigned nth, const char *request)
{
	_cleanup_json_ cJSON *list = NULL;
	cJSON *metadata, *items;
	_cleanup_free_ char *text = NULL, *path = strndup(request, strcspn(request, "\r"));
	char version[16];

	(void)nth;
	if (strstr(path, "watch=")) {
		usleep(20000);
		answer(fd, "200 OK", "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
				     "\"reason\":\"Expired\",\"message\":\"too old\"}}\n");
		return;
	}
	if (refuse_events && strstr(path, "/events")) {
		answer(fd, "403 Forbidden", "{\"kind\":\"Status\",\"code\":403,\"message\":\"no\"}");
		return;
	}
	if (old_operator && (strstr(path, "/leases?") || strstr(path, "/failoverquorums?"))) {
		answer(fd, "404 Not Found", "404 page not found");
		return;
	}
	list = json_object();
	metadata = json_object();
	items = json_array();
	snprintf(version, sizeof(version), "%d", step + 1);
	json_add_string(metadata, "resourceVersion", version);
	add_items(items, path);
	keep_what_was_asked_for(items, path);
	json_add_item(list, "metadata", metadata);
	json_add_item(list, "items", items);
	text = json_print(list);
	answer(fd, "200 OK", text);
}

UNUSED static void lease_is_held_by(const char *who)
{
	holder = who;
	holder_version++;
}

static void set_up(void)
{
	server_set_up();
	server_serve(serve);
}

static void tear_down(void)
{
	cluster_view_free(seen);
	server_tear_down();
	cJSON_Delete(data);
}

/* ---- what the manager says ---- */

static void on_view(const struct cluster_view *v, void *arg)
{
	(void)arg;
	cluster_view_free(seen);
	seen = cluster_view_copy(v);
}

static void on_event(const struct manager_event *e, void *arg)
{
	size_t n = strlen(told), k = strlen(texts);

	(void)arg;
	snprintf(told + n, sizeof(told) - n, "%s %s %s\n", event_kind_to_string(e->kind),
		e->instance ? e->instance : "-", e->value ? e->value : "-");
	snprintf(texts + k, sizeof(texts) - k, "%s\n", e->text);
}

static const struct manager_listener listener = {on_view, on_event, NULL};

/* Goes on until all of these were told. */
static void until_all(const char *where, const char *const *lines)
{
	uint64_t end = now_ns() + LIMIT_NS;
	bool all = false;

	while (!all && now_ns() < end) {
		cr_assert_geq(sd_event_run(event, 50000), 0);
		all = true;
		for (size_t i = 0; lines[i]; i++)
			all = all && strstr(where, lines[i]);
	}
	for (size_t i = 0; lines[i]; i++)
		cr_assert(strstr(where, lines[i]), "\"%s\" is not in:\n%s", lines[i], where);
}

#define until_told(...) until_all(told, (const char *const[]){__VA_ARGS__, NULL})
#define until_said(...) until_all(texts, (const char *const[]){__VA_ARGS__, NULL})

static bool leads(const char *name)
{
	return seen && (name ? seen->leader && strcmp(seen->leader, name) == 0 : !seen->leader);
}

static void until_leader(const char *name)
{
	uint64_t end = now_ns() + LIMIT_NS;

	while (now_ns() < end && !leads(name))
		cr_assert_geq(sd_event_run(event, 50000), 0);
	cr_assert(leads(name), "%s", told);
}

/* Until a view says that; NULL: that nothing stands against a drill. */
UNUSED static void until_refusal(const char *words)
{
	uint64_t end = now_ns() + LIMIT_NS;

#define REFUSES (seen && (words ? seen->refuse && strstr(seen->refuse, words) : !seen->refuse))
	while (now_ns() < end && !REFUSES)
		cr_assert_geq(sd_event_run(event, 50000), 0);
	cr_assert(REFUSES, "%s: %s", words ? words : "none", seen && seen->refuse ? seen->refuse : "none");
#undef REFUSES
}

static struct manager *open_manager(const char *driver, struct instance_info *const *instances, size_t n)
{
	struct manager_world w = {.http = client, .event = event, .instances = instances, .n = n, .kube = kube,
		.cluster = "shop/main", .pod = cJSON_GetArrayItem(json_get(step_now(), "pods"), 0)};
	struct manager *m = NULL;
	struct err *err = NULL;

	for (const struct manager_driver *const *d = manager_drivers(); *d; d++)
		if (strcmp((*d)->name, driver) == 0)
			cr_assert_eq((*d)->open(&w, &m, &err), 0, "%s", err_text(err));
	cr_assert_not_null(m);
	return m;
}
