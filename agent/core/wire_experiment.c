#include "core/wire.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "core/wire_field.h"

static const char *const state_words[EXPERIMENT_STATE_MAX] = {
	[EXPERIMENT_NEW] = "new",
	[EXPERIMENT_ARMED] = "armed",
	[EXPERIMENT_FIRING] = "firing",
	[EXPERIMENT_ACTIVE] = "active",
	[EXPERIMENT_REVERTING] = "reverting",
	[EXPERIMENT_VERIFYING] = "verifying",
	[EXPERIMENT_CLEAN] = "clean",
	[EXPERIMENT_REFUSED] = "refused",
	[EXPERIMENT_STUCK] = "stuck",
};
DEFINE_STRING_TABLE(experiment_state, enum experiment_state, state_words)

static const char *const end_words[END_REASON_MAX] = {
	[END_NONE] = "none",
	[END_REQUESTED] = "requested",
	[END_DURATION] = "duration",
	[END_LEASE] = "lease",
	[END_TARGET_GONE] = "target-gone",
	[END_SHUTDOWN] = "shutdown",
	[END_REPLAY] = "replay",
	[END_FAILED] = "failed",
	[END_STOPPED] = "stopped",
};
DEFINE_STRING_TABLE(end_reason, enum end_reason, end_words)

static int state_word(const char *s, int *ret)
{
	enum experiment_state v;
	int r = experiment_state_from_string(s, &v);

	if (r == 0)
		*ret = (int)v;
	return r;
}

static int end_word(const char *s, int *ret)
{
	enum end_reason v;
	int r = end_reason_from_string(s, &v);

	if (r == 0)
		*ret = (int)v;
	return r;
}

/* arm_request */

static int params_parse(const cJSON *item, void *member, struct err **err)
{
	cJSON **params = member;
	cJSON *copy;

	if (!cJSON_IsObject(item))
		return err_set(err, -EINVAL, "expected an object, got %s", json_type_name(item));
	copy = cJSON_Duplicate(item, true);
	if (!copy)
		return err_errno(err, -ENOMEM, "copy parameters");
	cJSON_Delete(*params);
	*params = copy;
	return 0;
}

static const struct json_field arm_fields[] = {
	FIELD(JSON_STRING, arm_request, experiment, MANDATORY),
	FIELD(JSON_STRING, arm_request, run, MANDATORY),
	FIELD(JSON_STRING, arm_request, fault, MANDATORY),
	FIELD(JSON_STRING, arm_request, instance, MANDATORY),
	/* Not JSON_PID: 0 stands for any. */
	FIELD(JSON_UINT32, arm_request, pid),
	FIELD(JSON_UINT64, arm_request, start_ticks),
	FIELD(JSON_CUSTOM, arm_request, params, .parse = params_parse),
	FIELD(JSON_UINT64, arm_request, duration_ms, MANDATORY),
	FIELD(JSON_UINT64, arm_request, lease_ms, MANDATORY),
	JSON_FIELD_END,
};

_Static_assert(sizeof(pid_t) == sizeof(uint32_t), "arm_request.pid is read as 32 bits");

void arm_request_free(struct arm_request *r)
{
	if (!r)
		return;
	free(r->experiment);
	free(r->run);
	free(r->fault);
	free(r->instance);
	cJSON_Delete(r->params);
	free(r);
}

cJSON *arm_request_to_json(const struct arm_request *r)
{
	cJSON *o = json_object();

	json_add_string(o, "experiment", r->experiment);
	json_add_string(o, "run", r->run);
	json_add_string(o, "fault", r->fault);
	json_add_string(o, "instance", r->instance);
	json_add_int(o, "pid", r->pid);
	json_add_uint(o, "start_ticks", r->start_ticks);
	json_add_item(o, "params", r->params ? cJSON_Duplicate(r->params, true) : NULL);
	json_add_uint(o, "duration_ms", r->duration_ms);
	json_add_uint(o, "lease_ms", r->lease_ms);
	return o;
}

static int arm_request_check(const struct arm_request *r, struct err **err)
{
	static const char *const form =
		"1 to 64 lower-case letters, digits and \"-\", which is neither first nor last";

	if (!id_is_valid(r->experiment))
		return json_err_at(err, err_set(err, -EINVAL, "\"%.80s\" is no id: %s",
			r->experiment, form), "experiment");
	if (!id_is_valid(r->run))
		return json_err_at(err,
			err_set(err, -EINVAL, "\"%.80s\" is no id: %s", r->run, form), "run");
	if (r->pid < 0)
		return json_err_at(err, err_set(err, -EINVAL, "too large for a pid"), "pid");
	if (r->duration_ms == 0)
		return json_err_at(err, err_set(err, -EINVAL, "must be above 0"), "duration_ms");
	if (r->lease_ms == 0)
		return json_err_at(err, err_set(err, -EINVAL, "must be above 0"), "lease_ms");
	return 0;
}

/* A request is what an agent acts on as root: a key that it does not know is an error. */
int arm_request_from_json(const cJSON *json, struct arm_request **ret, struct err **err)
{
	_cleanup_(arm_request_freep) struct arm_request *request = calloc(1, sizeof(*request));
	int r;

	if (!request)
		return err_errno(err, -ENOMEM, "request");
	r = json_dispatch(json, arm_fields, request, JSON_REFUSE_UNKNOWN, err);
	if (r < 0)
		return r;
	r = arm_request_check(request, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(request);
	return 0;
}

/* experiment_info */

static const struct json_field experiment_fields[] = {
	FIELD(JSON_STRING, experiment_info, experiment, MANDATORY),
	FIELD(JSON_STRING, experiment_info, run),
	FIELD(JSON_STRING, experiment_info, fault, MANDATORY),
	FIELD(JSON_STRING, experiment_info, instance),
	FIELD(JSON_ENUM, experiment_info, state, MANDATORY, .from_string = state_word),
	FIELD(JSON_ENUM, experiment_info, end_reason, .from_string = end_word),
	FIELD(JSON_CUSTOM, experiment_info, params, .parse = params_parse),
	FIELD(JSON_STRING, experiment_info, mechanism),
	FIELD(JSON_STRING, experiment_info, lifetime),
	FIELD(JSON_UINT64, experiment_info, created_ns),
	FIELD(JSON_UINT64, experiment_info, armed_ns),
	FIELD(JSON_UINT64, experiment_info, fired_ns),
	FIELD(JSON_UINT64, experiment_info, reverted_ns),
	FIELD(JSON_UINT64, experiment_info, verified_ns),
	FIELD(JSON_UINT64, experiment_info, fire_duration_ns),
	FIELD(JSON_UINT64, experiment_info, remaining_ms),
	FIELD(JSON_UINT64, experiment_info, lease_remaining_ms),
	FIELD(JSON_UINT64, experiment_info, hits),
	FIELD(JSON_CUSTOM, experiment_info, evidence, .parse = params_parse),
	FIELD(JSON_BOOL, experiment_info, verified_clean),
	FIELD(JSON_STRING, experiment_info, error),
	JSON_FIELD_END,
};

void experiment_info_free(struct experiment_info *e)
{
	if (!e)
		return;
	free(e->experiment);
	free(e->run);
	free(e->fault);
	free(e->instance);
	cJSON_Delete(e->params);
	free(e->mechanism);
	free(e->lifetime);
	cJSON_Delete(e->evidence);
	free(e->error);
	free(e);
}

cJSON *experiment_info_to_json(const struct experiment_info *e)
{
	cJSON *o = json_object();

	json_add_string(o, "experiment", e->experiment);
	json_add_string(o, "run", e->run);
	json_add_string(o, "fault", e->fault);
	json_add_string(o, "instance", e->instance);
	json_add_string(o, "state", experiment_state_to_string(e->state));
	json_add_string(o, "end_reason", end_reason_to_string(e->end_reason));
	json_add_item(o, "params", e->params ? cJSON_Duplicate(e->params, true) : NULL);
	json_add_string(o, "mechanism", e->mechanism);
	json_add_string(o, "lifetime", e->lifetime);
	json_add_uint(o, "created_ns", e->created_ns);
	json_add_uint(o, "armed_ns", e->armed_ns);
	json_add_uint(o, "fired_ns", e->fired_ns);
	json_add_uint(o, "reverted_ns", e->reverted_ns);
	json_add_uint(o, "verified_ns", e->verified_ns);
	json_add_uint(o, "fire_duration_ns", e->fire_duration_ns);
	json_add_uint(o, "remaining_ms", e->remaining_ms);
	json_add_uint(o, "lease_remaining_ms", e->lease_remaining_ms);
	json_add_uint(o, "hits", e->hits);
	json_add_item(o, "evidence", e->evidence ? cJSON_Duplicate(e->evidence, true) : NULL);
	json_add_bool(o, "verified_clean", e->verified_clean);
	json_add_string(o, "error", e->error);
	return o;
}

int experiment_info_from_json(const cJSON *json, struct experiment_info **ret, struct err **err)
{
	_cleanup_(experiment_info_freep) struct experiment_info *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_errno(err, -ENOMEM, "experiment");
	r = json_dispatch(json, experiment_fields, e, JSON_ALLOW_UNKNOWN, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(e);
	return 0;
}

/* Errors */

#define ERRNO_MAX 133	/* EHWPOISON, the last of errno(3) */

cJSON *error_to_json(int code, const char *message)
{
	cJSON *o = json_object(), *e = json_object();
	const char *name = strerrorname_np(code < 0 ? -code : code);

	json_add_string(e, "code", name && code ? name : "EIO");
	json_add_int(e, "status", err_http_status(code));
	json_add_string(e, "message", message ? message : strerror(code < 0 ? -code : code));
	json_add_item(o, "error", e);
	return o;
}

/* Negative errno of a name such as "EBUSY", or 0. */
static int code_from_name(const char *name)
{
	for (int i = 1; name && i <= ERRNO_MAX; i++) {
		const char *known = strerrorname_np(i);

		if (known && strcmp(known, name) == 0)
			return -i;
	}
	return 0;
}

int error_from_json(int http_status, const cJSON *json, struct err **err)
{
	const cJSON *e = json_get(json, "error");
	const char *message = cJSON_GetStringValue(json_get(e, "message"));
	int code = code_from_name(cJSON_GetStringValue(json_get(e, "code")));

	if (code == 0)
		code = err_from_http_status(http_status);
	if (message && *message)
		return err_set(err, code, "%s", message);
	return err_set(err, code, "HTTP status %d", http_status);
}

/* Ids */

bool id_is_valid(const char *id)
{
	size_t n = id ? strlen(id) : 0;

	if (n == 0 || n > 64 || id[0] == '-' || id[n - 1] == '-')
		return false;
	return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

char *id_new(const char *prefix)
{
	uint32_t number;
	char *id;

	while (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
		if (errno != EINTR)
			abort();
	if (asprintf(&id, "%s-%08x", prefix, number) < 0)
		abort();
	return id;
}
