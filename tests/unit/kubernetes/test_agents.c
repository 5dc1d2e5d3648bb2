#include <criterion/criterion.h>
#include <string.h>

#include "kubernetes/agents.h"
#include "kubernetes/pods.h"

static cJSON *parse(const char *text)
{
	cJSON *json = NULL;
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(json_parse(text, strlen(text), &json, &err), 0, "%s", err_text(err));
	return json;
}

#define READY "\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]"
#define AGENT(name, node, status) \
	"{\"metadata\":{\"name\":\"" name "\"},\"spec\":{\"nodeName\":\"" node "\",\"containers\":[{\"ports\":"     \
	"[{\"name\":\"metrics\",\"containerPort\":1},{\"name\":\"agent\",\"containerPort\":7421}]}]},\"status\":{" status "}}"

Test(agents, of_pods)
{
	_cleanup_json_ cJSON *pods = parse(
		"[" AGENT("c", "node3", "\"podIP\":\"10.0.0.3\"," READY) ","
		AGENT("a", "node1", "\"podIP\":\"fd00::1\",\"podIPs\":[{\"ip\":\"fd00::1\"},{\"ip\":\"10.0.0.1\"}]," READY) ","
		AGENT("b", "node2", "\"podIP\":\"10.0.0.2\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"False\","
			"\"message\":\"containers with unready status: [agent]\"}]") ","
		AGENT("old", "node1", "\"phase\":\"Failed\",\"podIP\":\"10.0.0.9\"," READY) ","
		AGENT("d", "node4", "\"phase\":\"Pending\",\"containerStatuses\":[{\"name\":\"agent\",\"state\":"
			"{\"waiting\":{\"reason\":\"ImagePullBackOff\"}}}]") ","
		AGENT("e", "node5", READY) ","
		"{\"metadata\":{\"name\":\"f\"},\"spec\":{},\"status\":{\"phase\":\"Pending\",\"conditions\":[{\"type\":"
		"\"PodScheduled\",\"status\":\"False\",\"message\":\"0/2 nodes are available\"}]}}]");
	static const struct {
		const char *pod, *node, *url, *why;
		bool never_ran;
	} expected[] = {
		{"f", "", NULL, "not ready (0/2 nodes are available)", true},
		{"a", "node1", "https://[fd00::1]:7421", NULL, false},
		{"b", "node2", "https://10.0.0.2:7421", "not ready (containers with unready status: [agent])", false},
		{"c", "node3", "https://10.0.0.3:7421", NULL, false},
		{"d", "node4", NULL, "container agent: ImagePullBackOff", true},
		{"e", "node5", NULL, "it has no address", false},
	};
	struct kube_agents a = {0};

	kube_agents_of_pods(pods, &a);
	cr_assert_eq(a.count, ELEMENTS(expected));
	for (size_t i = 0; i < a.count; i++) {
		cr_expect_str_eq(a.items[i].pod, expected[i].pod);
		cr_expect_str_eq(a.items[i].node, expected[i].node);
		cr_expect_eq(!a.items[i].url, !expected[i].url);
		if (a.items[i].url && expected[i].url)
			cr_expect_str_eq(a.items[i].url, expected[i].url);
		cr_expect_eq(!a.items[i].why, !expected[i].why);
		cr_expect_eq(a.items[i].never_ran, expected[i].never_ran, "%s", expected[i].pod);
		if (a.items[i].why && expected[i].why)
			cr_expect_str_eq(a.items[i].why, expected[i].why);
	}
	kube_agents_done(&a);
}

/* Only what is known not to have run has not. */
Test(pods, has_run)
{
#define POD(statuses) "{\"spec\":{\"nodeName\":\"n\"},\"status\":{\"containerStatuses\":[" statuses "]}}"
	static const struct {
		const char *pod;
		bool has_run;
	} cases[] = {
		{"{\"spec\":{}}", false},
		{"{\"spec\":{\"nodeName\":\"n\"}}", true},
		{POD("{\"state\":{\"waiting\":{\"reason\":\"ContainerCreating\"}},\"restartCount\":0}"), false},
		{POD("{\"state\":{\"waiting\":{\"reason\":\"CrashLoopBackOff\"}},\"restartCount\":2}"), true},
		{POD("{\"state\":{\"waiting\":{}},\"lastState\":{\"terminated\":{\"exitCode\":1}}}"), true},
		{POD("{\"state\":{\"running\":{}}}"), true},
		{POD("{\"state\":{\"terminated\":{}}}"), true},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_json_ cJSON *pod = parse(cases[i].pod);

		cr_expect_eq(pod_has_run(pod), cases[i].has_run, "%s", cases[i].pod);
	}
}

Test(pods, addresses)
{
	_cleanup_json_ cJSON *pod = parse("{\"status\":{\"podIP\":\"10.0.0.1\",\"podIPs\":[{\"ip\":\"10.0.0.1\"},"
		"{\"ip\":\"fd00::1\"},{\"ip\":\"no address\"},{\"ip\":7},null]}}");
	_cleanup_json_ cJSON *old = parse("{\"status\":{\"podIP\":\"10.0.0.1\"}}");
	_cleanup_json_ cJSON *none = parse("{\"status\":{\"podIP\":\"\"}}");
	_cleanup_strv_ char **list = pod_addresses(pod), **one = pod_addresses(old),
		**nothing = pod_addresses(none);

	cr_assert_eq(strv_length(list), 2);
	cr_assert_str_eq(list[1], "fd00::1");
	cr_assert_eq(strv_length(one), 1);
	cr_assert_null(nothing);
}

Test(pods, deleted_is_not_ready)
{
	_cleanup_json_ cJSON *pod = parse("{\"metadata\":{\"deletionTimestamp\":\"x\"},\"status\":{" READY "}}");
	_cleanup_free_ char *why = pod_unready(pod);

	cr_assert_str_eq(why, "it is being deleted");
}

Test(pods, cluster)
{
	_cleanup_json_ cJSON *a = parse("{\"metadata\":{\"labels\":{\"cnpg.io/cluster\":\"main\",\"cluster-name\":\"x\"}}}");
	_cleanup_json_ cJSON *b = parse("{\"metadata\":{\"labels\":{\"cluster-name\":\"acid\"}}}");
	_cleanup_json_ cJSON *c = parse("{\"metadata\":{\"labels\":{}}}");

	cr_assert_str_eq(pod_cluster(a), "main");
	cr_assert_str_eq(pod_cluster(b), "acid");
	cr_assert_null(pod_cluster(c));
}
