#include "api/route.h"

#include <string.h>
#include "api/server_internal.h"
#include "core/json.h"

static cJSON *describe(struct experiment *e)
{
	_cleanup_(experiment_info_freep) struct experiment_info *info = experiment_describe(e);

	return experiment_info_to_json(info);
}

static int find(const struct call *call, struct experiment **ret, struct err **err)
{
	if (!id_is_valid(call->id))
		return err_set(err, -EINVAL, "\"%.64s\" is no id: expected 1 to 64 of a-z, 0-9 and "
			"\"-\", which is neither first nor last", call->id);
	return experiments_find(call->server->agent->experiments, call->id, ret, err);
}

int handle_list(const struct call *call, struct answer *ret, struct err **err)
{
	_cleanup_free_ struct experiment **list = NULL;
	cJSON *array;
	size_t n = 0;
	int r;

	r = experiments_list(call->server->agent->experiments, &list, &n);
	if (r < 0)
		return err_errno(err, r, "list the experiments");
	array = json_array();
	for (size_t i = 0; i < n; i++)
		json_append(array, describe(list[i]));
	ret->json = json_object();
	json_add_item(ret->json, "experiments", array);
	return 0;
}

int handle_get(const struct call *call, struct answer *ret, struct err **err)
{
	struct experiment *e;
	int r;

	r = find(call, &e, err);
	if (r < 0)
		return r;
	ret->json = describe(e);
	return 0;
}

int handle_arm(const struct call *call, struct answer *ret, struct err **err)
{
	_cleanup_(arm_request_freep) struct arm_request *request = NULL;
	struct experiment *e;
	int r;

	r = arm_request_from_json(call->body, &request, err);
	if (r < 0)
		return r;
	r = experiment_arm(call->server->agent->experiments, request, &e, err);
	if (r < 0)
		return r;
	ret->status = 201;
	ret->json = describe(e);
	return 0;
}

/* Nothing comes between the request and the blow; the answer is built after it. */
int handle_fire(const struct call *call, struct answer *ret, struct err **err)
{
	struct experiment *e;
	int r;

	r = find(call, &e, err);
	if (r == 0)
		r = experiment_fire(e, err);
	if (r < 0)
		return r;
	ret->json = describe(e);
	return 0;
}

int handle_renew(const struct call *call, struct answer *ret, struct err **err)
{
	struct renewal {
		uint64_t lease_ms;
	} renewal = {0};
	static const struct json_field fields[] = {
		{.name = "lease_ms", .type = JSON_UINT64,
			.offset = offsetof(struct renewal, lease_ms), .mandatory = true},
		JSON_FIELD_END,
	};
	struct experiment *e;
	int r;

	r = json_dispatch(call->body, fields, &renewal, JSON_REFUSE_UNKNOWN, err);
	if (r < 0)
		return r;
	if (renewal.lease_ms == 0)
		return err_set(err, -EINVAL, "lease_ms: must be above 0");
	r = find(call, &e, err);
	if (r == 0)
		r = experiment_renew(e, renewal.lease_ms, err);
	if (r < 0)
		return r;
	ret->json = describe(e);
	return 0;
}

int handle_revert(const struct call *call, struct answer *ret, struct err **err)
{
	struct experiment *e;
	int r;

	r = find(call, &e, err);
	if (r == 0)
		r = experiment_revert(e, END_REQUESTED, err);
	if (r < 0)
		return r;
	ret->json = describe(e);
	return 0;
}

static bool is_over(enum experiment_state s)
{
	return s == EXPERIMENT_CLEAN || s == EXPERIMENT_REFUSED;
}

/* Keeps those in list that are of the run (NULL: any) and not over. Returns how many. */
static size_t select_live(struct experiment **list, size_t n, const char *run)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		_cleanup_(experiment_info_freep) struct experiment_info *info =
			experiment_describe(list[i]);

		if (!is_over(info->state) && (!run || (info->run && strcmp(info->run, run) == 0)))
			list[kept++] = list[i];
	}
	return kept;
}

/* Appends it to array as it is afterwards. Returns 1 if it is left. */
static size_t revert_one(struct experiment *e, cJSON *array)
{
	_cleanup_(experiment_info_freep) struct experiment_info *after = NULL;

	/* A failure is in the experiment's own `error`, and the others still have to go. */
	(void)experiment_revert(e, END_REQUESTED, NULL);
	after = experiment_describe(e);
	json_append(array, experiment_info_to_json(after));
	return is_over(after->state) ? 0 : 1;
}

int handle_revert_all(const struct call *call, struct answer *ret, struct err **err)
{
	struct selection {
		char *run;
	} selection = {0};
	static const struct json_field fields[] = {
		{.name = "run", .type = JSON_STRING, .offset = offsetof(struct selection, run)},
		JSON_FIELD_END,
	};
	_cleanup_free_ struct experiment **list = NULL;
	size_t n = 0, left = 0;
	cJSON *array;
	int r = 0;

	if (call->body)
		r = json_dispatch(call->body, fields, &selection, JSON_REFUSE_UNKNOWN, err);
	if (r == 0 && selection.run && !id_is_valid(selection.run))
		r = err_set(err, -EINVAL, "run: \"%.64s\" is no id", selection.run);
	if (r == 0)
		r = experiments_list(call->server->agent->experiments, &list, &n);
	if (r < 0) {
		free(selection.run);
		return r;
	}
	/* Before the first revert: each that ends may push one that had ended before off the list. */
	n = select_live(list, n, selection.run);
	free(selection.run);
	array = json_array();
	/* The newest first: it may lie over an older one. */
	for (size_t i = n; i-- > 0;)
		left += revert_one(list[i], array);
	ret->json = json_object();
	json_add_uint(ret->json, "left", left);
	json_add_item(ret->json, "experiments", array);
	return 0;
}
