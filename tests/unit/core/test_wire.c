#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include "core/wire.h"

/* Through text, as on the wire. */
static cJSON *through(cJSON *json)
{
	_cleanup_json_ cJSON *given = json;
	_cleanup_free_ char *text = json_print(given);
	_cleanup_err_ struct err *e = NULL;
	cJSON *back = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &back, &e), 0, "%s: %s", text, err_text(e));
	return back;
}

static cJSON *parsed(const char *text)
{
	_cleanup_err_ struct err *e = NULL;
	cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, &e), 0, "%s: %s", text, err_text(e));
	return json;
}

Test(wire, words_both_ways)
{
	enum role role;
	enum experiment_state state;
	enum end_reason reason;

	for (int i = 0; i < ROLE_MAX; i++) {
		cr_assert_eq(role_from_string(role_to_string((enum role)i), &role), 0);
		cr_assert_eq((int)role, i);
	}
	for (int i = 0; i < EXPERIMENT_STATE_MAX; i++) {
		const char *word = experiment_state_to_string((enum experiment_state)i);

		cr_assert_eq(experiment_state_from_string(word, &state), 0);
		cr_assert_eq((int)state, i);
	}
	for (int i = 0; i < END_REASON_MAX; i++) {
		cr_assert_eq(end_reason_from_string(end_reason_to_string((enum end_reason)i), &reason),
			0);
		cr_assert_eq((int)reason, i);
	}
	cr_assert_null(role_to_string(ROLE_MAX));
	cr_assert_eq(role_from_string("Primary", &role), -EINVAL);
	cr_assert_eq(role_from_string(NULL, &role), -EINVAL);
}

Test(wire, instance_round_trip)
{
	char *addresses[] = {"10.0.0.1", "fd00::1", NULL}, *servers[] = {"fd00::53", NULL};
	struct instance_info i = {
		.name = "lab/pg1", .cluster = "lab", .member = "pg1", .node = "n1",
		.role = ROLE_REPLICA, .pid = 4242, .start_ticks = UINT64_MAX, .pgdata = "/data",
		.waldir = "/wal", .cgroup = "/pgjolt-lab/pg1", .netns = 4026532000,
		.host_network = true, .port = 5432, .socket_dir = NULL, .version = "15.18",
		.addresses = addresses, .nameservers = servers,
	};
	_cleanup_(instance_info_freep) struct instance_info *back = NULL, *copy = NULL;
	_cleanup_json_ cJSON *json = through(instance_info_to_json(&i)), *again = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(instance_info_from_json(json, &back, &e), 0, "%s", err_text(e));
	copy = instance_info_copy(back);
	again = instance_info_to_json(copy);
	cr_assert(cJSON_Compare(json, again, true));
	cr_assert_eq(copy->start_ticks, UINT64_MAX);
	cr_assert_eq(copy->role, ROLE_REPLICA);
	cr_assert_null(copy->socket_dir);
	cr_assert_str_eq(copy->addresses[1], "fd00::1");
	cr_assert_str_eq(copy->nameservers[0], "fd00::53");
	cr_assert_neq(copy->name, back->name);
}

Test(wire, instance_reads_newer_and_refuses_wrong)
{
	_cleanup_json_ cJSON *newer = parsed("{\"name\":\"a/b\",\"pid\":1,\"colour\":\"red\"}");
	_cleanup_json_ cJSON *wrong = parsed("{\"name\":\"a/b\",\"pid\":1,\"role\":\"boss\"}");
	_cleanup_json_ cJSON *missing = parsed("{\"name\":\"a/b\"}");
	_cleanup_(instance_info_freep) struct instance_info *i = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(instance_info_from_json(wrong, &i, &e), -EINVAL);
	cr_assert(strstr(err_text(e), "role: \"boss\""), "%s", err_text(e));
	cr_assert_eq(instance_info_from_json(missing, &i, &e), -EINVAL);
	cr_assert(strstr(err_text(e), "pid: is missing"), "%s", err_text(e));
	cr_assert_null(i);
	cr_assert_eq(instance_info_from_json(newer, &i, &e), 0);
}

Test(wire, node_round_trip)
{
	struct capability capabilities[] = {
		{.fault = "net-partition", .supported = true, .mechanism = "tcx"},
		{.fault = "net-shape", .supported = false, .reason = "no /dev/net/tun"},
	};
	struct node_info n = {
		.name = "n1", .boot_id = "b", .kernel = "6.18", .machine = "x86_64", .version = "0.1.0",
		.clock_ns = 1234567890123456, .accepting = true, .capabilities = capabilities,
		.n_capabilities = 2,
	};
	_cleanup_(node_info_freep) struct node_info *back = NULL;
	_cleanup_json_ cJSON *json = through(node_info_to_json(&n)), *again = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(node_info_from_json(json, &back, &e), 0, "%s", err_text(e));
	again = node_info_to_json(back);
	cr_assert(cJSON_Compare(json, again, true));
	cr_assert_eq(back->clock_ns, 1234567890123456);
	cr_assert_eq(back->n_capabilities, 2);
	cr_assert_str_eq(back->capabilities[1].reason, "no /dev/net/tun");
}

Test(wire, node_errors_have_a_path)
{
	static const char *const table[][2] = {
		{"{\"name\":\"n\",\"capabilities\":{}}", "capabilities: expected an array"},
		{"{\"name\":\"n\",\"capabilities\":[{\"fault\":\"x\",\"supported\":true},"
		 "{\"fault\":\"y\",\"supported\":1}]}", "capabilities[1].supported: expected true"},
		{"{\"name\":\"n\",\"capabilities\":[7]}", "capabilities[0]: expected an object"},
		{"{\"name\":\"n\",\"capabilities\":[{}]}", "capabilities[0].fault: is missing"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		_cleanup_json_ cJSON *json = parsed(table[i][0]);
		_cleanup_err_ struct err *e = NULL;
		struct node_info *n = NULL;

		cr_assert_eq(node_info_from_json(json, &n, &e), -EINVAL);
		cr_assert(strstr(err_text(e), table[i][1]), "%s", err_text(e));
	}
}

static cJSON *arm_json(void)
{
	return parsed("{\"experiment\":\"e-1\",\"run\":\"r-1\",\"fault\":\"net-partition\","
		      "\"instance\":\"lab/pg1\",\"pid\":7,\"start_ticks\":99,"
		      "\"params\":{\"peers\":[\"all\"]},\"duration_ms\":30000,\"lease_ms\":5000}");
}

Test(wire, arm_round_trip)
{
	_cleanup_json_ cJSON *json = arm_json(), *again = NULL;
	_cleanup_(arm_request_freep) struct arm_request *r = NULL;
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(arm_request_from_json(json, &r, &e), 0, "%s", err_text(e));
	cr_assert_eq(r->pid, 7);
	cr_assert_eq(r->duration_ms, 30000);
	again = through(arm_request_to_json(r));
	cr_assert(cJSON_Compare(json, again, true));
}

static void arm_refused(const char *key, const char *value, const char *words)
{
	_cleanup_json_ cJSON *json = arm_json();
	_cleanup_err_ struct err *e = NULL;
	struct arm_request *r = NULL;

	cJSON_DeleteItemFromObjectCaseSensitive(json, key);
	if (value)
		json_add_item(json, key, parsed(value));
	cr_assert_eq(arm_request_from_json(json, &r, &e), -EINVAL, "%s %s", key, value);
	cr_assert_null(r);
	cr_assert(strstr(err_text(e), words), "%s lacks %s", err_text(e), words);
}

Test(wire, arm_is_strict)
{
	arm_refused("experiment", NULL, "experiment: is missing");
	arm_refused("experiment", "\"../../etc\"", "experiment: \"../../etc\" is no id");
	arm_refused("experiment", "\"\"", "is no id");
	arm_refused("run", "\"R1\"", "run: \"R1\" is no id");
	arm_refused("run", "null", "run: is missing");
	arm_refused("fault", "null", "fault: is missing");
	arm_refused("instance", "3", "instance: expected a string");
	arm_refused("duration_ms", "0", "duration_ms: must be above 0");
	arm_refused("duration_ms", "-1", "duration_ms: expected");
	arm_refused("duration_ms", NULL, "duration_ms: is missing");
	arm_refused("lease_ms", "0", "lease_ms: must be above 0");
	arm_refused("params", "[]", "params: expected an object, got an array");
	arm_refused("params", "\"x\"", "params: expected an object");
	arm_refused("pid", "-7", "pid: expected");
	arm_refused("pid", "4294967295", "pid: too large");
	arm_refused("colour", "1", "colour: no such key here");
}

Test(wire, arm_may_leave_out)
{
	_cleanup_json_ cJSON *json = arm_json();
	_cleanup_(arm_request_freep) struct arm_request *r = NULL;
	_cleanup_err_ struct err *e = NULL;

	cJSON_DeleteItemFromObject(json, "pid");
	cJSON_DeleteItemFromObject(json, "params");
	cJSON_DeleteItemFromObject(json, "start_ticks");
	cr_assert_eq(arm_request_from_json(json, &r, &e), 0, "%s", err_text(e));
	cr_assert_eq(r->pid, 0);
	cr_assert_null(r->params);
}

Test(wire, experiment_round_trip)
{
	_cleanup_json_ cJSON *evidence = parsed("{\"peers\":{\"dcs\":{\"packets\":3}}}");
	struct experiment_info e = {
		.experiment = "e-1", .run = "r-1", .fault = "net-shape", .instance = "lab/pg1",
		.state = EXPERIMENT_STUCK, .end_reason = END_TARGET_GONE, .params = NULL,
		.mechanism = "tap", .lifetime = "held", .created_ns = 1, .armed_ns = 2,
		.fired_ns = 9007199254740993, .reverted_ns = 4, .verified_ns = UINT64_MAX,
		.fire_duration_ns = 6, .remaining_ms = 7, .lease_remaining_ms = 8, .hits = 9,
		.evidence = evidence, .verified_clean = true, .error = "a \"quote\"\n",
	};
	_cleanup_(experiment_info_freep) struct experiment_info *back = NULL;
	_cleanup_json_ cJSON *json = through(experiment_info_to_json(&e)), *again = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(experiment_info_from_json(json, &back, &err), 0, "%s", err_text(err));
	again = experiment_info_to_json(back);
	cr_assert(cJSON_Compare(json, again, true));
	cr_assert_eq(back->fired_ns, 9007199254740993);
	cr_assert_eq(back->verified_ns, UINT64_MAX);
	cr_assert_eq(back->state, EXPERIMENT_STUCK);
	cr_assert_eq(back->end_reason, END_TARGET_GONE);
	cr_assert_str_eq(back->error, e.error);
}

Test(wire, event_round_trip)
{
	struct agent_event e = {.sequence = 1, .at_ns = 2, .kind = "state", .experiment = "e-1",
		.state = "active", .text = "fired"};
	_cleanup_(agent_event_freep) struct agent_event *back = NULL;
	_cleanup_json_ cJSON *json = through(agent_event_to_json(&e)), *again = NULL;

	cr_assert_eq(agent_event_from_json(json, &back, NULL), 0);
	again = agent_event_to_json(back);
	cr_assert(cJSON_Compare(json, again, true));
	cr_assert_null(back->instance);
}

/* Each message against documents that are nothing of the kind. */
Test(wire, garbage_is_refused)
{
	static const char *const table[] = {"[]", "7", "\"x\"", "{}", "{\"name\":[]}", "true"};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		_cleanup_json_ cJSON *json = parsed(table[i]);

		cr_assert_eq(instance_info_from_json(json, &(struct instance_info *){NULL}, NULL),
			-EINVAL);
		cr_assert_eq(node_info_from_json(json, &(struct node_info *){NULL}, NULL), -EINVAL);
		cr_assert_eq(arm_request_from_json(json, &(struct arm_request *){NULL}, NULL),
			-EINVAL);
		cr_assert_eq(experiment_info_from_json(json, &(struct experiment_info *){NULL}, NULL),
			-EINVAL);
		cr_assert_eq(agent_event_from_json(json, &(struct agent_event *){NULL}, NULL),
			-EINVAL);
	}
	cr_assert_eq(node_info_from_json(NULL, &(struct node_info *){NULL}, NULL), -EINVAL);
}

Test(wire, errors_keep_their_code)
{
	static const int codes[] = {EINVAL, ENOENT, ESTALE, EBUSY, EEXIST, EPERM, EACCES, EOPNOTSUPP,
		ETIMEDOUT, ENOSPC, EIO};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		_cleanup_json_ cJSON *json = through(error_to_json(-codes[i], "it failed"));
		_cleanup_err_ struct err *e = NULL;

		cr_assert_eq(error_from_json(err_http_status(-codes[i]), json, &e), -codes[i]);
		cr_assert_str_eq(err_text(e), "it failed");
	}
}

Test(wire, errors_from_strangers)
{
	static const char *const table[] = {
		"{}", "[]", "{\"error\":7}", "{\"error\":{}}", "{\"error\":{\"code\":7}}",
		"{\"error\":{\"code\":\"EWHAT\",\"message\":\"\"}}", "null",
	};
	_cleanup_err_ struct err *none = NULL;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		_cleanup_json_ cJSON *json = parsed(table[i]);
		_cleanup_err_ struct err *e = NULL;

		cr_assert_eq(error_from_json(404, json, &e), -ENOENT, "%s", table[i]);
		cr_assert_str_eq(err_text(e), "HTTP status 404");
	}
	cr_assert_eq(error_from_json(502, NULL, &none), -EIO);
	cr_assert_str_eq(err_text(none), "HTTP status 502");
}

Test(wire, ids)
{
	char longest[66];

	memset(longest, 'a', sizeof(longest));
	longest[65] = '\0';
	cr_assert(!id_is_valid(longest));
	longest[64] = '\0';
	cr_assert(id_is_valid(longest));
	cr_assert(id_is_valid("a") && id_is_valid("0") && id_is_valid("r-1-2"));
	cr_assert(!id_is_valid(NULL) && !id_is_valid("") && !id_is_valid("-") && !id_is_valid("-a"));
	cr_assert(!id_is_valid("a-") && !id_is_valid("A") && !id_is_valid("a/b") && !id_is_valid(".."));
	cr_assert(!id_is_valid("a b") && !id_is_valid("a\n") && !id_is_valid("\xc3\xa4"));
}

Test(wire, new_ids_are_valid_and_differ)
{
	_cleanup_free_ char *a = id_new("run"), *b = id_new("run");

	cr_assert(id_is_valid(a), "%s", a);
	cr_assert_eq(strncmp(a, "run-", 4), 0);
	cr_assert_eq(strlen(a), 12);
	cr_assert_str_neq(a, b);
}

Test(wire, free_takes_null)
{
	instance_info_free(NULL);
	node_info_free(NULL);
	arm_request_free(NULL);
	experiment_info_free(NULL);
	agent_event_free(NULL);
}
