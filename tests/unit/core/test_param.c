#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include "core/catalogue.h"

static const char *const colours[] = {"red", "blue", NULL};
static const char *const moods[] = {"calm", "wild", NULL};

static const struct param_spec specs[] = {
	{.name = "on", .type = PARAM_BOOL, .help = "h"},
	{.name = "count", .type = PARAM_COUNT, .min = 2, .max = 9, .help = "h"},
	{.name = "at-least", .type = PARAM_COUNT, .min = 2, .help = "h"},
	{.name = "time", .type = PARAM_DURATION, .min = 1000, .max = 60000000000, .help = "h"},
	{.name = "share", .type = PARAM_PERCENT, .help = "h"},
	{.name = "size", .type = PARAM_BYTES, .fallback = "64KiB", .max = 1 << 20, .help = "h"},
	{.name = "rate", .type = PARAM_RATE, .help = "h"},
	{.name = "colour", .type = PARAM_ENUM, .fallback = "blue", .choices = colours, .help = "h"},
	{.name = "signal", .type = PARAM_SIGNAL, .help = "h"},
	{.name = "text", .type = PARAM_TEXT, .help = "h"},
	{.name = "texts", .type = PARAM_TEXTS, .help = "h"},
	{.name = "moods", .type = PARAM_TEXTS, .choices = moods, .help = "h"},
	{.name = "peers", .type = PARAM_PEERS, .fallback = "all", .help = "h"},
	{.name = "ports", .type = PARAM_PORTS, .help = "h"},
	{.name = "must", .type = PARAM_COUNT, .required = true, .min = 1, .max = 3, .help = "h"},
};

static int check(const struct params *p, struct err **err)
{
	if (params_number(p, "count") == 7)
		return err_set(err, -EINVAL, "count: 7 is taken");
	return 0;
}

static const struct fault_spec fault = {
	.name = "test-fault", .params = specs, .n_params = ELEMENTS(specs), .check = check,
	.peers_param = "peers",
};

static int read_text(const char *text, bool resolved, struct params **ret, struct err **err)
{
	_cleanup_json_ cJSON *json = NULL;
	int r = json_parse(text, strlen(text), &json, err);

	cr_assert_eq(r, 0, "%s: %s", text, err_text(*err));
	return resolved ? params_from_json(&fault, json, ret, err)
			: params_from_json_unresolved(&fault, json, ret, err);
}

static struct params *taken(const char *text)
{
	_cleanup_err_ struct err *e = NULL;
	struct params *p = NULL;

	cr_assert_eq(read_text(text, true, &p, &e), 0, "%s: %s", text, err_text(e));
	return p;
}

static void refused(const char *text, const char *words)
{
	_cleanup_err_ struct err *e = NULL;
	struct params *p = NULL;

	cr_assert_eq(read_text(text, true, &p, &e), -EINVAL, "%s was taken", text);
	cr_assert_null(p);
	cr_assert(strstr(err_text(e), words), "%s: \"%s\" lacks \"%s\"", text, err_text(e), words);
	cr_assert_eq(strncmp(err_text(e), "test-fault", 10), 0, "%s", err_text(e));
}

Test(param, defaults_and_absence)
{
	_cleanup_(params_freep) struct params *p = taken("{\"must\":1,\"time\":null}");

	cr_assert(!params_is_set(p, "time"));
	cr_assert_eq(params_number(p, "time"), 0);
	cr_assert(!params_is_set(p, "on"));
	cr_assert_null(params_text(p, "text"));
	cr_assert_null(params_texts(p, "texts"));
	cr_assert_eq(params_peers(p, "ports")->count, 0);
	cr_assert(params_is_set(p, "size"));
	cr_assert_eq(params_number(p, "size"), 65536);
	cr_assert(!p->values[5].given);
	cr_assert_eq(params_number(p, "colour"), 1);
	cr_assert_eq(params_peers(p, "peers")->count, 1);
	cr_assert(p->values[14].given);
}

Test(param, every_type)
{
	_cleanup_(params_freep) struct params *p = taken(
		"{\"must\":\"2\",\"on\":true,\"count\":9,\"time\":\"0.5ms\",\"share\":12.5,"
		"\"size\":4096,\"rate\":\"10mbit\",\"colour\":\"red\",\"signal\":\"sigterm\","
		"\"text\":\"a, b\",\"texts\":\"a, b c ,d\",\"moods\":[\"wild\",\"calm\"],"
		"\"peers\":[\"dcs=10.0.0.1:2379\",\"fd00::/64\"],\"ports\":\"5432,8000-8010\"}");

	cr_assert_eq(params_number(p, "must"), 2);
	cr_assert_eq(params_number(p, "on"), 1);
	cr_assert_eq(params_number(p, "count"), 9);
	cr_assert_eq(params_number(p, "time"), 500000);
	cr_assert_eq(params_number(p, "share"), 125000);
	cr_assert_eq(params_number(p, "size"), 4096);
	cr_assert_eq(params_number(p, "rate"), 10000000);
	cr_assert_eq(params_number(p, "colour"), 0);
	cr_assert_eq(params_number(p, "signal"), SIGTERM);
	cr_assert_str_eq(params_text(p, "text"), "a, b");
	cr_assert_eq(strv_length(params_texts(p, "texts")), 3);
	cr_assert_str_eq(params_texts(p, "texts")[1], "b c");
	cr_assert_eq(strv_length(params_texts(p, "moods")), 2);
	cr_assert_eq(params_peers(p, "peers")->count, 2);
	cr_assert_str_eq(params_peers(p, "peers")->peers[0].label, "dcs");
	cr_assert_eq(params_peers(p, "ports")->count, 2);
	cr_assert_eq(params_peers(p, "ports")->peers[1].port_low, 8000);
	cr_assert_eq(params_peers(p, "ports")->peers[1].port_high, 8010);
}

Test(param, canonical_form_is_a_fixed_point)
{
	_cleanup_(params_freep) struct params *p = taken(
		"{\"must\":\"2\",\"on\":\"false\",\"count\":9,\"time\":\"0.5ms\",\"share\":\"12.50%\","
		"\"size\":65536,\"rate\":\"10000kbit\",\"signal\":9,\"texts\":[\"a,b\",\"c\"],"
		"\"peers\":\"10.0.0.1/32,[::/0]:80-80\",\"ports\":[5432,\"80-90\"]}");
	_cleanup_(params_freep) struct params *again = NULL;
	_cleanup_json_ cJSON *first = params_to_json(p), *second = NULL;
	_cleanup_free_ char *text = json_print(first);
	_cleanup_err_ struct err *e = NULL;

	cr_assert_str_eq(text,
		"{\"on\":false,\"count\":9,\"time\":\"500us\",\"share\":\"12.5%\","
		"\"size\":\"64KiB\",\"rate\":\"10mbit\",\"colour\":\"blue\",\"signal\":\"KILL\","
		"\"texts\":[\"a,b\",\"c\"],\"peers\":[\"10.0.0.1\",\"[::/0]:80\"],"
		"\"ports\":\"5432,80-90\",\"must\":2}");
	cr_assert_eq(params_from_json(&fault, first, &again, &e), 0, "%s", err_text(e));
	second = params_to_json(again);
	cr_assert(cJSON_Compare(first, second, true));
}

Test(param, errors_name_fault_parameter_given_and_allowed)
{
	refused("{}", "test-fault: must: is required (allowed: 1..3)");
	refused("{\"must\":null}", "must: is required");
	refused("[]", "expected an object");
	refused("{\"must\":0}", "test-fault: must: 0 is out of range (allowed: 1..3)");
	refused("{\"must\":4}", "must: 4 is out of range");
	refused("{\"must\":1.5}", "\"1.5\" is not a whole number");
	refused("{\"must\":-1}", "\"-1\" is not a whole number");
	refused("{\"must\":1e300}", "must");
	refused("{\"must\":true}", "must: expected a text or a number, got a boolean");
	refused("{\"must\":[1]}", "must: expected a text or a number, got an array");
	refused("{\"must\":{}}", "got an object");
	refused("{\"must\":1,\"at-least\":1}", "allowed: at least 2");
	refused("{\"must\":1,\"time\":\"999ns\"}", "time: 999ns is out of range (allowed: 1us..1m)");
	refused("{\"must\":1,\"time\":\"61s\"}", "time: 61s is out of range");
	refused("{\"must\":1,\"time\":20}", "\"20\" is not a duration");
	refused("{\"must\":1,\"time\":\"5x\"}", "(allowed: 1us..1m)");
	refused("{\"must\":1,\"share\":101}", "above 100% (allowed: 0%..100%)");
	refused("{\"must\":1,\"share\":1e-7}", "share: ");
	refused("{\"must\":1,\"size\":\"2MiB\"}", "allowed: 0..1MiB");
	refused("{\"must\":1,\"rate\":10}", "\"10\" is not a rate");
	refused("{\"must\":1,\"colour\":\"green\"}", "colour: \"green\" is not one of red|blue");
	refused("{\"must\":1,\"on\":\"yes\"}", "on: \"yes\" is not true or false");
	refused("{\"must\":1,\"on\":1}", "on: \"1\" is not true or false");
	refused("{\"must\":1,\"signal\":\"NOPE\"}", "\"NOPE\" is no signal");
	refused("{\"must\":1,\"signal\":0}", "signal: ");
	refused("{\"must\":1,\"signal\":65}", "signal: ");
	refused("{\"must\":1,\"signal\":\"SIG\"}", "is no signal");
	refused("{\"must\":1,\"text\":\"\"}", "text: an empty text");
	refused("{\"must\":1,\"text\":\"a\\nb\"}", "control character");
	refused("{\"must\":1,\"texts\":\"\"}", "empty part");
	refused("{\"must\":1,\"texts\":\"a,,b\"}", "empty part");
	refused("{\"must\":1,\"texts\":\"a,\"}", "empty part");
	refused("{\"must\":1,\"texts\":\" , \"}", "empty part");
	refused("{\"must\":1,\"texts\":[]}", "an empty list");
	refused("{\"must\":1,\"texts\":[\"\"]}", "an empty text");
	refused("{\"must\":1,\"texts\":[true]}", "expected texts in the list, got a boolean");
	refused("{\"must\":1,\"texts\":[[\"a\"]]}", "got an array");
	refused("{\"must\":1,\"texts\":{\"a\":1}}", "got an object");
	refused("{\"must\":1,\"moods\":\"calm,sad\"}", "moods: \"sad\" is not one of calm|wild");
	refused("{\"must\":1,\"peers\":\"replicas\"}", "peers: peer \"replicas\"");
	refused("{\"must\":1,\"peers\":[7]}", "peers: ");
	refused("{\"must\":1,\"ports\":\"0\"}", "ports: \"0\" is no port");
	refused("{\"must\":1,\"ports\":\"80-\"}", "ports: ");
	refused("{\"must\":1,\"ports\":\"90-80\"}", "90 is above 80");
	refused("{\"must\":1,\"count\":7}", "test-fault: count: 7 is taken");
	refused("{\"must\":1,\"tiem\":\"1s\"}", "has no parameter \"tiem\"; did you mean \"time\"?");
	refused("{\"must\":1,\"Time\":\"1s\"}", "did you mean \"time\"?");
	refused("{\"must\":1,\"bandwidth\":\"1s\"}", "\"pgjolt faults test-fault\" lists them");
}

Test(param, lists_are_bounded)
{
	_cleanup_err_ struct err *e = NULL;
	_cleanup_json_ cJSON *o = json_object();
	cJSON *many = json_array();
	struct params *p = NULL;
	char text[300];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 257; i++)
		json_append(many, cJSON_CreateString("a"));
	json_add_uint(o, "must", 1);
	json_add_item(o, "texts", many);
	cr_assert_eq(params_from_json(&fault, o, &p, &e), -EINVAL);
	cr_assert(strstr(err_text(e), "257 parts in a list"), "%s", err_text(e));
	cJSON_DeleteItemFromObject(o, "texts");
	json_add_string(o, "text", text);
	cr_assert_eq(params_from_json(&fault, o, &p, &e), -EINVAL);
	cr_assert(strstr(err_text(e), "longer than"), "%s", err_text(e));
	cr_assert_null(p);
}

Test(param, unresolved_peers_keep_their_names)
{
	_cleanup_(params_freep) struct params *p = NULL;
	_cleanup_err_ struct err *e = NULL;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *text = NULL;

	cr_assert_eq(read_text("{\"must\":1,\"peers\":\"replicas, dcs:2379,10.0.0.0/8,x=fd00::1\"}",
		false, &p, &e), 0, "%s", err_text(e));
	cr_assert_null(e);
	cr_assert_eq(params_peers(p, "peers")->count, 0);
	cr_assert_eq(strv_length(params_texts(p, "peers")), 4);
	json = params_to_json(p);
	text = json_print(json_get(json, "peers"));
	cr_assert_str_eq(text, "[\"replicas\",\"dcs:2379\",\"10.0.0.0/8\",\"x=fd00::1\"]");
}

Test(param, unresolved_peers_are_still_checked)
{
	static const char *const bad[] = {
		"10.0.0.300", "10.0.0.1/8", "dcs:0", "dcs:", "dcs:90-80", "a b", "x=replicas",
		"[fd00::1", "\xc3\xa4",
	};

	for (size_t i = 0; i < ELEMENTS(bad); i++) {
		_cleanup_err_ struct err *e = NULL;
		_cleanup_json_ cJSON *o = json_object();
		struct params *p = NULL;

		json_add_uint(o, "must", 1);
		json_add_string(o, "peers", bad[i]);
		cr_assert_eq(params_from_json_unresolved(&fault, o, &p, &e), -EINVAL, "%s", bad[i]);
		cr_assert(strstr(err_text(e), "test-fault: peers: "), "%s", err_text(e));
	}
}

Test(param, unknown_name_is_a_bug, .signal = SIGABRT)
{
	_cleanup_(params_freep) struct params *p = taken("{\"must\":1}");

	params_number(p, "no-such");
}
