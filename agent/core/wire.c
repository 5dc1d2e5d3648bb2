#include "core/wire.h"

#include <string.h>
#include "core/wire_field.h"

static const char *const role_words[ROLE_MAX] = {
	[ROLE_UNKNOWN] = "unknown",
	[ROLE_PRIMARY] = "primary",
	[ROLE_REPLICA] = "replica",
};
DEFINE_STRING_TABLE(role, enum role, role_words)

static int role_word(const char *s, int *ret)
{
	enum role v;
	int r = role_from_string(s, &v);

	if (r == 0)
		*ret = (int)v;
	return r;
}

/* instance_info */

static const struct json_field instance_fields[] = {
	FIELD(JSON_STRING, instance_info, name, MANDATORY),
	FIELD(JSON_STRING, instance_info, cluster),
	FIELD(JSON_STRING, instance_info, cluster_name),
	FIELD(JSON_STRING, instance_info, member),
	FIELD(JSON_STRING, instance_info, node),
	FIELD(JSON_ENUM, instance_info, role, .from_string = role_word),
	FIELD(JSON_PID, instance_info, pid, MANDATORY),
	FIELD(JSON_UINT64, instance_info, start_ticks),
	FIELD(JSON_STRING, instance_info, pgdata),
	FIELD(JSON_STRING, instance_info, waldir),
	FIELD(JSON_STRING, instance_info, cgroup),
	FIELD(JSON_UINT64, instance_info, netns),
	FIELD(JSON_BOOL, instance_info, host_network),
	FIELD(JSON_UINT16, instance_info, port),
	FIELD(JSON_STRING, instance_info, socket_dir),
	FIELD(JSON_STRING, instance_info, version),
	FIELD(JSON_STRV, instance_info, addresses),
	FIELD(JSON_STRV, instance_info, dcs),
	FIELD(JSON_STRV, instance_info, nameservers),
	FIELD(JSON_STRING, instance_info, namespace),
	FIELD(JSON_STRING, instance_info, pod),
	FIELD(JSON_STRING, instance_info, pod_uid),
	FIELD(JSON_STRING, instance_info, container),
	FIELD(JSON_STRV, instance_info, labels),
	FIELD(JSON_STRING, instance_info, owner),
	JSON_FIELD_END,
};

void instance_info_free(struct instance_info *i)
{
	if (!i)
		return;
	free(i->name);
	free(i->cluster);
	free(i->cluster_name);
	free(i->member);
	free(i->node);
	free(i->pgdata);
	free(i->waldir);
	free(i->cgroup);
	free(i->socket_dir);
	free(i->version);
	strv_free(i->addresses);
	strv_free(i->dcs);
	strv_free(i->nameservers);
	free(i->namespace);
	free(i->pod);
	free(i->pod_uid);
	free(i->container);
	strv_free(i->labels);
	free(i->owner);
	free(i);
}

static char *copy_text(const char *s)
{
	char *copy = s ? strdup(s) : NULL;

	if (s && !copy)
		abort();
	return copy;
}

struct instance_info *instance_info_copy(const struct instance_info *i)
{
	struct instance_info *copy = malloc(sizeof(*copy));

	if (!copy)
		abort();
	*copy = *i;
	copy->name = copy_text(i->name);
	copy->cluster = copy_text(i->cluster);
	copy->cluster_name = copy_text(i->cluster_name);
	copy->member = copy_text(i->member);
	copy->node = copy_text(i->node);
	copy->pgdata = copy_text(i->pgdata);
	copy->waldir = copy_text(i->waldir);
	copy->cgroup = copy_text(i->cgroup);
	copy->socket_dir = copy_text(i->socket_dir);
	copy->version = copy_text(i->version);
	copy->addresses = strv_copy(i->addresses);
	copy->dcs = strv_copy(i->dcs);
	copy->nameservers = strv_copy(i->nameservers);
	copy->namespace = copy_text(i->namespace);
	copy->pod = copy_text(i->pod);
	copy->pod_uid = copy_text(i->pod_uid);
	copy->container = copy_text(i->container);
	copy->labels = strv_copy(i->labels);
	copy->owner = copy_text(i->owner);
	return copy;
}

cJSON *instance_info_to_json(const struct instance_info *i)
{
	cJSON *o = json_object();

	json_add_string(o, "name", i->name);
	json_add_string(o, "cluster", i->cluster);
	json_add_string(o, "cluster_name", i->cluster_name);
	json_add_string(o, "member", i->member);
	json_add_string(o, "node", i->node);
	json_add_string(o, "role", role_to_string(i->role));
	json_add_int(o, "pid", i->pid);
	json_add_uint(o, "start_ticks", i->start_ticks);
	json_add_string(o, "pgdata", i->pgdata);
	json_add_string(o, "waldir", i->waldir);
	json_add_string(o, "cgroup", i->cgroup);
	json_add_uint(o, "netns", i->netns);
	json_add_bool(o, "host_network", i->host_network);
	json_add_uint(o, "port", i->port);
	json_add_string(o, "socket_dir", i->socket_dir);
	json_add_string(o, "version", i->version);
	json_add_strv(o, "addresses", i->addresses);
	json_add_strv(o, "dcs", i->dcs);
	json_add_strv(o, "nameservers", i->nameservers);
	json_add_string(o, "namespace", i->namespace);
	json_add_string(o, "pod", i->pod);
	json_add_string(o, "pod_uid", i->pod_uid);
	json_add_string(o, "container", i->container);
	json_add_strv(o, "labels", i->labels);
	json_add_string(o, "owner", i->owner);
	return o;
}

/* Answers may gain keys: an older coordinator reads a newer agent. */
int instance_info_from_json(const cJSON *json, struct instance_info **ret, struct err **err)
{
	_cleanup_(instance_info_freep) struct instance_info *i = calloc(1, sizeof(*i));
	int r;

	if (!i)
		return err_errno(err, -ENOMEM, "instance");
	r = json_dispatch(json, instance_fields, i, JSON_ALLOW_UNKNOWN, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(i);
	return 0;
}

/* node_info */

static const struct json_field capability_fields[] = {
	FIELD(JSON_STRING, capability, fault, MANDATORY),
	FIELD(JSON_BOOL, capability, supported, MANDATORY),
	FIELD(JSON_STRING, capability, mechanism),
	FIELD(JSON_STRING, capability, reason),
	JSON_FIELD_END,
};

/* The count sits behind the array, so the parser takes the struct and not the member. */
static int capabilities_parse(const cJSON *item, void *member, struct err **err)
{
	struct node_info *n =
		(struct node_info *)((char *)member - offsetof(struct node_info, capabilities));
	const cJSON *child;
	int r;

	if (!cJSON_IsArray(item))
		return err_set(err, -EINVAL, "expected an array, got %s", json_type_name(item));
	if (n->capabilities)
		return err_set(err, -EINVAL, "is there twice");
	n->capabilities = calloc((size_t)cJSON_GetArraySize(item) + 1, sizeof(*n->capabilities));
	if (!n->capabilities)
		return err_errno(err, -ENOMEM, "capabilities");
	cJSON_ArrayForEach(child, item) {
		size_t i = n->n_capabilities++;

		r = json_dispatch(child, capability_fields, &n->capabilities[i],
			JSON_ALLOW_UNKNOWN, err);
		if (r < 0)
			return json_err_at(err, r, "[%zu]", i);
	}
	return 0;
}

static const struct json_field node_fields[] = {
	FIELD(JSON_STRING, node_info, name, MANDATORY),
	FIELD(JSON_STRING, node_info, boot_id),
	FIELD(JSON_STRING, node_info, kernel),
	FIELD(JSON_STRING, node_info, machine),
	FIELD(JSON_STRING, node_info, version),
	FIELD(JSON_UINT64, node_info, clock_ns),
	FIELD(JSON_BOOL, node_info, accepting),
	FIELD(JSON_STRING, node_info, reason),
	FIELD(JSON_CUSTOM, node_info, capabilities, .parse = capabilities_parse),
	JSON_FIELD_END,
};

void node_info_free(struct node_info *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n_capabilities; i++) {
		free(n->capabilities[i].fault);
		free(n->capabilities[i].mechanism);
		free(n->capabilities[i].reason);
	}
	free(n->capabilities);
	free(n->name);
	free(n->boot_id);
	free(n->kernel);
	free(n->machine);
	free(n->version);
	free(n->reason);
	free(n);
}

cJSON *node_info_to_json(const struct node_info *n)
{
	cJSON *o = json_object(), *array = json_array();

	json_add_string(o, "name", n->name);
	json_add_string(o, "boot_id", n->boot_id);
	json_add_string(o, "kernel", n->kernel);
	json_add_string(o, "machine", n->machine);
	json_add_string(o, "version", n->version);
	json_add_uint(o, "clock_ns", n->clock_ns);
	json_add_bool(o, "accepting", n->accepting);
	json_add_string(o, "reason", n->reason);
	for (size_t i = 0; i < n->n_capabilities; i++) {
		cJSON *c = json_object();

		json_add_string(c, "fault", n->capabilities[i].fault);
		json_add_bool(c, "supported", n->capabilities[i].supported);
		json_add_string(c, "mechanism", n->capabilities[i].mechanism);
		json_add_string(c, "reason", n->capabilities[i].reason);
		json_append(array, c);
	}
	json_add_item(o, "capabilities", array);
	return o;
}

int node_info_from_json(const cJSON *json, struct node_info **ret, struct err **err)
{
	_cleanup_(node_info_freep) struct node_info *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return err_errno(err, -ENOMEM, "node");
	r = json_dispatch(json, node_fields, n, JSON_ALLOW_UNKNOWN, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(n);
	return 0;
}

/* agent_event */

static const struct json_field event_fields[] = {
	FIELD(JSON_UINT64, agent_event, sequence, MANDATORY),
	FIELD(JSON_UINT64, agent_event, at_ns, MANDATORY),
	FIELD(JSON_STRING, agent_event, kind, MANDATORY),
	FIELD(JSON_STRING, agent_event, experiment),
	FIELD(JSON_STRING, agent_event, instance),
	FIELD(JSON_STRING, agent_event, state),
	FIELD(JSON_STRING, agent_event, text),
	JSON_FIELD_END,
};

void agent_event_free(struct agent_event *e)
{
	if (!e)
		return;
	free(e->kind);
	free(e->experiment);
	free(e->instance);
	free(e->state);
	free(e->text);
	free(e);
}

cJSON *agent_event_to_json(const struct agent_event *e)
{
	cJSON *o = json_object();

	json_add_uint(o, "sequence", e->sequence);
	json_add_uint(o, "at_ns", e->at_ns);
	json_add_string(o, "kind", e->kind);
	json_add_string(o, "experiment", e->experiment);
	json_add_string(o, "instance", e->instance);
	json_add_string(o, "state", e->state);
	json_add_string(o, "text", e->text);
	return o;
}

int agent_event_from_json(const cJSON *json, struct agent_event **ret, struct err **err)
{
	_cleanup_(agent_event_freep) struct agent_event *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_errno(err, -ENOMEM, "event");
	r = json_dispatch(json, event_fields, e, JSON_ALLOW_UNKNOWN, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(e);
	return 0;
}
