#include "agentlink/agent_ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentlink/link_internal.h"

typedef int (*reply_reader)(struct agent_reply *reply, const cJSON *json, struct err **err);

struct asking {
	struct agent_reply *reply;
	reply_reader read;
	struct pending *pending;
	bool answered;
	size_t *left;			/* of all that were asked */
};

void agent_replies_done(struct agent_replies *r)
{
	for (size_t i = 0; i < r->count; i++) {
		struct agent_reply *reply = &r->items[i];

		err_free(reply->err);
		node_info_free(reply->node);
		for (size_t k = 0; reply->instances && k < reply->count; k++)
			instance_info_free(reply->instances[k]);
		for (size_t k = 0; reply->experiments && k < reply->count; k++)
			experiment_info_free(reply->experiments[k]);
		free(reply->instances);
		free(reply->experiments);
	}
	free(r->items);
	*r = (struct agent_replies){0};
}

int agent_replies_check(const struct agent_replies *r, struct err **err)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->items[i].err)
			return err_set(err, r->items[i].err->code, "%s", r->items[i].err->text);
	return 0;
}

static void replies_make(struct agent_link *const *links, size_t n, struct agent_replies *ret)
{
	*ret = (struct agent_replies){calloc(n + 1, sizeof(*ret->items)), n};
	if (!ret->items)
		abort();
	for (size_t i = 0; i < n; i++)
		ret->items[i].link = links[i];
}

/* ---- what they answer ---- */

static int read_node(struct agent_reply *reply, const cJSON *json, struct err **err)
{
	return node_info_from_json(json, &reply->node, err);
}

static int read_one(struct agent_reply *reply, const cJSON *json, struct err **err)
{
	struct experiment_info **list = calloc(1, sizeof(*list));
	int r;

	if (!list)
		abort();
	r = experiment_info_from_json(json, &list[0], err);
	reply->experiments = list;
	reply->count = r >= 0;
	return r;
}

static int read_array(const cJSON *json, const char *key, const cJSON **ret, struct err **err)
{
	*ret = cJSON_GetObjectItemCaseSensitive(json, key);
	return cJSON_IsArray(*ret) ? 0 : err_set(err, -EPROTO, "no \"%s\" in its answer", key);
}

static int read_instances(struct agent_reply *reply, const cJSON *json, struct err **err)
{
	const cJSON *array, *item;
	int r = read_array(json, "instances", &array, err);

	if (r < 0)
		return r;
	reply->instances = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof(*reply->instances));
	if (!reply->instances)
		abort();
	cJSON_ArrayForEach(item, array)
	{
		r = instance_info_from_json(item, &reply->instances[reply->count], err);
		if (r < 0)
			return r;
		reply->count++;
	}
	return 0;
}

static int read_experiments(struct agent_reply *reply, const cJSON *json, struct err **err)
{
	const cJSON *array, *item;
	int r = read_array(json, "experiments", &array, err);

	if (r < 0)
		return r;
	reply->experiments = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof(*reply->experiments));
	if (!reply->experiments)
		abort();
	cJSON_ArrayForEach(item, array)
	{
		r = experiment_info_from_json(item, &reply->experiments[reply->count], err);
		if (r < 0)
			return r;
		reply->count++;
	}
	return 0;
}

static int read_reverted(struct agent_reply *reply, const cJSON *json, struct err **err)
{
	const struct json_field fields[] = {
		{"left", JSON_UINT64, 0, true, NULL, NULL},
		JSON_FIELD_END,
	};
	uint64_t left = 0;
	int r = json_dispatch(json, fields, &left, JSON_ALLOW_UNKNOWN, err);

	reply->left = left;
	return r < 0 ? r : read_experiments(reply, json, err);
}

/* ---- asking ---- */

static void on_answered(cJSON **json, const struct err *err, void *data)
{
	struct asking *a = data;

	a->answered = true;
	(*a->left)--;
	if (err) {
		err_set(&a->reply->err, err->code, "%s", err->text);
	} else {
		/* Its words may be no refusal, whatever is wrong with them. */
		if (a->read(a->reply, *json, &a->reply->err) < 0)
			err_wrap(&a->reply->err, -EPROTO, "agent %s", agent_link_name(a->reply->link));
	}
}

static void wait_all(struct agent_replies *replies, struct asking *asking, const size_t *left)
{
	_cleanup_err_ struct err *err = NULL;
	int r = 0;

	while (*left && r >= 0)
		r = http_client_turn(replies->items[0].link->http, UINT64_MAX, &err);
	for (size_t i = 0; r < 0 && i < replies->count; i++) {
		struct agent_reply *reply = &replies->items[i];

		if (asking[i].answered || reply->err)
			continue;
		link_give_up(asking[i].pending);
		link_clock_cancel(reply->link);
		err_set(&reply->err, r, "agent %s: %s", agent_link_name(reply->link), err_text(err));
	}
}

/* questions: one each, or (each false) the first for all. */
static void ask_all(struct agent_replies *replies, const struct link_question *questions, bool each,
	reply_reader read)
{
	_cleanup_free_ struct asking *asking = calloc(replies->count + 1, sizeof(*asking));
	size_t left = 0;

	if (!asking)
		abort();
	for (size_t i = 0; i < replies->count; i++) {
		struct agent_reply *reply = &replies->items[i];
		const struct link_listener listener = {on_answered, NULL, &asking[i]};

		asking[i] = (struct asking){.reply = reply, .read = read, .left = &left};
		if (link_ask(reply->link, &questions[each ? i : 0], &listener, &asking[i].pending,
			    &reply->err) >= 0)
			left++;
	}
	wait_all(replies, asking, &left);
}

static void ask_same(struct agent_link *const *links, size_t n, const struct link_question *question,
	reply_reader read, struct agent_replies *ret)
{
	replies_make(links, n, ret);
	ask_all(ret, question, false, read);
}

void agent_ask_nodes(struct agent_link *const *links, size_t n, struct agent_replies *ret)
{
	ask_same(links, n, &(struct link_question){"GET", "/v1/node", NULL, 0}, read_node, ret);
	for (size_t i = 0; i < n; i++)
		if (ret->items[i].node && !links[i]->name)
			links[i]->name = strdup(ret->items[i].node->name);
}

void agent_ask_instances(struct agent_link *const *links, size_t n, struct agent_replies *ret)
{
	ask_same(links, n, &(struct link_question){"GET", "/v1/instances", NULL, 0}, read_instances,
		ret);
}

void agent_ask_experiments(struct agent_link *const *links, size_t n, struct agent_replies *ret)
{
	ask_same(links, n, &(struct link_question){"GET", "/v1/experiments", NULL, 0},
		read_experiments, ret);
}

void agent_ask_revert_all(struct agent_link *const *links, size_t n, struct agent_replies *ret)
{
	ask_same(links, n,
		&(struct link_question){"POST", "/v1/revert", "{}", REVERT_TIMEOUT_MS},
		read_reverted, ret);
}

void agent_ask_arm(struct agent_link *const *links, const struct arm_request *requests, size_t n,
	struct agent_replies *ret)
{
	_cleanup_free_ struct link_question *questions = calloc(n + 1, sizeof(*questions));
	_cleanup_strv_ char **bodies = NULL;

	if (!questions)
		abort();
	replies_make(links, n, ret);
	for (size_t i = 0; i < n; i++) {
		_cleanup_json_ cJSON *json = arm_request_to_json(&requests[i]);

		strv_push(&bodies, json_print(json));
		questions[i] = (struct link_question){"POST", "/v1/experiments", bodies[i],
			REVERT_TIMEOUT_MS};
	}
	ask_all(ret, questions, true, read_one);
}

static void ask_of_each(struct agent_link *const *links, const char *const *experiments, size_t n,
	const char *verb, struct agent_replies *ret)
{
	_cleanup_free_ struct link_question *questions = calloc(n + 1, sizeof(*questions));
	_cleanup_strv_ char **paths = NULL;

	if (!questions)
		abort();
	replies_make(links, n, ret);
	for (size_t i = 0; i < n; i++) {
		char *path = NULL;

		if (asprintf(&path, "/v1/experiments/%s%s", experiments[i], verb ? verb : "") < 0)
			abort();
		strv_push(&paths, path);
		questions[i] = (struct link_question){verb ? "POST" : "GET", path, NULL,
			verb ? REVERT_TIMEOUT_MS : 0};
	}
	ask_all(ret, questions, true, read_one);
}

void agent_ask_get(struct agent_link *const *links, const char *const *experiments, size_t n,
	struct agent_replies *ret)
{
	ask_of_each(links, experiments, n, NULL, ret);
}

void agent_ask_revert(struct agent_link *const *links, const char *const *experiments, size_t n,
	struct agent_replies *ret)
{
	ask_of_each(links, experiments, n, "/revert", ret);
}

/* ---- clocks ---- */

static void on_measured(const struct err *err, void *data)
{
	struct asking *a = data;

	a->answered = true;
	(*a->left)--;
	if (err)
		err_set(&a->reply->err, err->code, "%s", err->text);
}

void agent_ask_clocks(struct agent_link *const *links, size_t n, unsigned rounds,
	struct agent_replies *ret)
{
	_cleanup_free_ struct asking *asking = calloc(n + 1, sizeof(*asking));
	size_t left = 0;

	if (!asking)
		abort();
	replies_make(links, n, ret);
	for (size_t i = 0; i < n; i++) {
		asking[i] = (struct asking){.reply = &ret->items[i], .left = &left};
		if (agent_link_clock_start(links[i], rounds, on_measured, &asking[i],
			    &ret->items[i].err) >= 0)
			left++;
	}
	wait_all(ret, asking, &left);
}
