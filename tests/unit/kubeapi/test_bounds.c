/* What a namespace's annotations and the kill switch's ConfigMap say. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "kubeapi/namespaces.h"
#include "kube/stop_switch.h"

static cJSON *parse(const char *text)
{
	cJSON *json = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0, "%s", text);
	return json;
}

static int check(const char *annotations, const char *fault, uint64_t duration_ms, struct err **err)
{
	struct arm_request request = {.fault = (char *)fault, .duration_ms = duration_ms};
	_cleanup_json_ cJSON *namespace = NULL;
	char text[512];

	snprintf(text, sizeof(text), "{\"metadata\": {\"name\": \"db\", \"annotations\": {%s}}}", annotations);
	namespace = parse(text);
	return namespace_check_bounds(namespace, &request, err);
}

Test(bounds, of_a_namespace)
{
	static const char faults[] = "\"pgjolt.io/faults\": \"net-*, proc-kill\"";
	static const char most[] = "\"pgjolt.io/max-duration\": \"10s\"";
	_cleanup_err_ struct err *err = NULL;

	cr_expect_eq(check("", "dns", 3600000, NULL), 0);
	cr_expect_eq(check(faults, "net-shape", 1, NULL), 0);
	cr_expect_eq(check(faults, "proc-kill", 1, NULL), 0);
	cr_expect_eq(check(faults, "proc-freeze", 1, &err), -EPERM);
	cr_expect(strstr(err_text(err), "proc-freeze") && strstr(err_text(err), "net-*, proc-kill"));
	cr_expect_eq(check("\"pgjolt.io/faults\": \"\"", "dns", 1, NULL), -EPERM);
	cr_expect_eq(check(most, "dns", 10000, NULL), 0);
	cr_expect_eq(check(most, "dns", 10001, &err), -EPERM);
	cr_expect(strstr(err_text(err), "10s"), "%s", err_text(err));
	cr_expect_eq(check(most, "dns", UINT64_MAX, NULL), -EPERM);
	cr_expect_eq(check("\"pgjolt.io/max-duration\": \"soon\"", "dns", 1, &err), -EPERM);
	cr_expect(strstr(err_text(err), "soon"), "%s", err_text(err));
}

Test(bounds, share_of_a_cluster)
{
	static const struct {
		const char *text;
		int r;
		uint32_t ppm;
	} cases[] = {
		{"50%", 0, 500000}, {"100%", 0, 900000}, {"0%", 0, 0}, {"12.5", 0, 125000}, {"95%", 0, 900000},
		{"", -EPERM, 900000}, {"half", -EPERM, 900000}, {"-5%", -EPERM, 900000},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_err_ struct err *err = NULL;
		_cleanup_json_ cJSON *namespace = NULL;
		const char *annotation = NULL;
		uint32_t ppm = 900000;
		char text[256];

		snprintf(text, sizeof(text), "{\"metadata\": {\"name\": \"db\", \"annotations\": "
			"{\"pgjolt.io/max-share\": \"%s\"}}}", cases[i].text);
		namespace = parse(text);
		cr_expect_eq(namespace_share(namespace, &ppm, &annotation, &err), cases[i].r, "%s", cases[i].text);
		cr_expect_eq(ppm, cases[i].ppm, "%s", cases[i].text);
		cr_expect_eq(annotation != NULL, ppm < 900000);
		cr_expect(cases[i].r == 0 || strstr(err_text(err), "namespace db"), "%s", err_text(err));
	}
}

Test(stop_switch, words)
{
	static const struct {
		const char *text;
		bool on;
	} cases[] = {
		{"{}", false}, {"{\"data\": 5}", false}, {"{\"data\": {}}", false},
		{"{\"data\": {\"stop\": \"\"}}", false}, {"{\"data\": {\"stop\": \"False\"}}", false},
		{"{\"data\": {\"stop\": \"no\"}}", false}, {"{\"data\": {\"stop\": \"true\"}}", true},
		{"{\"data\": {\"stop\": \"YES\"}}", true}, {"{\"data\": {\"stop\": \"ture\"}}", true},
	};

	cr_expect_not(stop_switch_is_on(NULL));
	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_json_ cJSON *map = parse(cases[i].text);

		cr_expect_eq(stop_switch_is_on(map), cases[i].on, "%s", cases[i].text);
	}
}

Test(stop_switch, reason)
{
	_cleanup_json_ cJSON *map = parse("{\"metadata\": {\"name\": \"n\", \"namespace\": \"s\"}, "
		"\"data\": {\"stop\": \"true\", \"reason\": \"a\\nb\"}}");
	_cleanup_json_ cJSON *bare = parse("{\"metadata\": {\"name\": \"n\", \"namespace\": \"s\"}}");
	_cleanup_free_ char *words = stop_switch_words(map), *none = stop_switch_words(bare);
	_cleanup_free_ char *path = stop_switch_path("s", "n");

	cr_expect_str_eq(words, "the kill switch (ConfigMap s/n) is on: a b");
	cr_expect_str_eq(none, "the kill switch (ConfigMap s/n) is on");
	cr_expect(stop_switch_is_reason(words, "s", "n") && stop_switch_is_reason(none, "s", "n"));
	cr_expect_not(stop_switch_is_reason(words, "s", "m"));
	cr_expect_not(stop_switch_is_reason("the kill switch has not been read yet", "s", "n"));
	cr_expect_not(stop_switch_is_reason(NULL, "s", "n"));
	cr_expect_str_eq(path, "/api/v1/namespaces/s/configmaps?fieldSelector=metadata.name%3Dn");
}
