#include "manager/pod.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "kubernetes/pods.h"

/* More than any pod has; a list that is longer is cut. */
#define LIST_MAX 64

void pod_done(struct pod *p)
{
	free(p->name);
	free(p->uid);
	free(p->node);
	free(p->address);
	strv_free(p->addresses);
	free(p->not_ready);
	free(p->restarted);
	cJSON_Delete(p->object);
	*p = (struct pod){0};
}

static char *text_of(const cJSON *object, const char *path)
{
	const char *text = kube_text(object, path);
	char *copy = text && *text ? strdup(text) : NULL;

	if (text && *text && !copy)
		abort();
	return copy;
}

static const char *member(const cJSON *object, const char *name)
{
	const cJSON *item = json_get(object, name);

	return cJSON_IsString(item) ? item->valuestring : NULL;
}

static void read_ready(const cJSON *object, struct pod *p)
{
	const cJSON *list = kube_field(object, "status.conditions"), *item;
	int left = LIST_MAX;

	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach(item, list)
	{
		const char *type = member(item, "type"), *status = member(item, "status");
		const char *reason = member(item, "reason"), *message = member(item, "message");

		if (!left--)
			return;
		if (!type || !status || strcmp(type, "Ready") != 0)
			continue;
		p->ready = strcmp(status, "True") == 0;
		if (p->ready || !(message || reason))
			return;
		if (asprintf(&p->not_ready, "%.300s", message && *message ? message : reason) < 0)
			abort();
		return;
	}
}

static void read_end(const cJSON *container, struct pod *p)
{
	const cJSON *end = kube_field(container, "lastState.terminated");
	const cJSON *code = json_get(end, "exitCode");
	const char *name = member(container, "name"), *reason = member(end, "reason");

	free(p->restarted);
	if (asprintf(&p->restarted, "container %.100s had ended: %.100s, exit code %d", name ? name : "?",
		reason ? reason : "unknown reason", cJSON_IsNumber(code) ? code->valueint : -1) < 0)
		abort();
}

static void read_containers(const cJSON *object, struct pod *p)
{
	const cJSON *list = kube_field(object, "status.containerStatuses"), *item;
	int left = LIST_MAX;

	if (!cJSON_IsArray(list))
		return;
	cJSON_ArrayForEach(item, list)
	{
		const cJSON *count = json_get(item, "restartCount");

		if (!left--)
			return;
		if (!cJSON_IsNumber(count) || !(count->valuedouble > 0) || count->valuedouble > 1e9)
			continue;
		p->restarts += (uint64_t)count->valuedouble;
		read_end(item, p);
	}
}

int pod_read(const cJSON *object, struct pod *ret, struct err **err)
{
	struct pod p = {0};

	if (!*kube_name(object))
		return err_set(err, -EPROTO, "the API server sent a pod without a name");
	p.name = strdup(kube_name(object));
	p.object = cJSON_Duplicate(object, true);
	if (!p.name || !p.object)
		abort();
	p.uid = text_of(object, "metadata.uid");
	p.node = text_of(object, "spec.nodeName");
	p.deleting = kube_text(object, "metadata.deletionTimestamp") != NULL;
	p.addresses = pod_addresses(object);
	p.address = p.addresses ? strdup(p.addresses[0]) : NULL;
	read_ready(object, &p);
	read_containers(object, &p);
	*ret = p;
	return 0;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void tell_of(pod_teller tell, void *data, enum event_kind kind, const char *pod,
	const char *value, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static void tell_of(pod_teller tell, void *data, enum event_kind kind, const char *pod,
	const char *value, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = text_vformat(fmt, ap);
	va_end(ap);
	tell(kind, pod, value, text, data);
}

static void tell_ready(const struct pod *p, pod_teller tell, void *data)
{
	if (p->ready)
		tell_of(tell, data, EVENT_READY, p->name, "ok", "pod %s is ready", p->name);
	else
		tell_of(tell, data, EVENT_READY, p->name, "fail", "pod %s is not ready%s%s", p->name,
			p->not_ready ? ": " : "", p->not_ready ? p->not_ready : "");
}

void pod_compare(const struct pod *old, const struct pod *new, pod_teller tell, void *data)
{
	bool another = new && (!old || !same(old->uid, new->uid));

	if (!new) {
		if (old)
			tell_of(tell, data, EVENT_POD, old->name, "gone", "pod %s is gone", old->name);
		return;
	}
	if (another)
		tell_of(tell, data, EVENT_POD, new->name, "new", "pod %s is %s%s%s", new->name,
			old ? "another one now" : "new", new->node ? ", on node " : "",
			new->node ? new->node : "");
	if (new->deleting && (another || !old->deleting))
		tell_of(tell, data, EVENT_POD, new->name, "deleting", "pod %s is being deleted",
			new->name);
	if (!another && new->restarts > old->restarts)
		tell_of(tell, data, EVENT_POD, new->name, "restarted", "pod %s: %s", new->name,
			new->restarted ? new->restarted : "a container was restarted");
	/* A new pod is not ready yet: that is no news. */
	if (another ? new->ready || (old && old->ready) : new->ready != old->ready)
		tell_ready(new, tell, data);
	if (new->address && old && old->address && !same(old->address, new->address))
		tell_of(tell, data, EVENT_POD, new->name, "moved", "pod %s has the address %s now",
			new->name, new->address);
}

const char *pod_instance(const char *namespace, const char *pod,
	struct instance_info *const *instances, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (instances[i]->pod && instances[i]->namespace &&
			strcmp(instances[i]->pod, pod) == 0 &&
			strcmp(instances[i]->namespace, namespace) == 0)
			return instances[i]->name;
	return NULL;
}
