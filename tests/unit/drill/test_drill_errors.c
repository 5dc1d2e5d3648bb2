/* What is wrong in a drill is said with its place. */
#include "parse.h"

#include <stdlib.h>

#define INJECT "steps:\n  - inject: net-partition\n    target: primary\n    for: 5s\n"

Test(drill_errors, mappings)
{
	refused("", "t.yaml:1:1: the file is empty");
	refused("# nothing\n", "t.yaml:1:1: the file is empty");
	refused("[]", "t.yaml:1:1: expected a drill as a mapping");
	refused("a drill", "t.yaml:1:1: expected a drill as a mapping");
	refused("summary: s\n" STEPS, "t.yaml:1:1: a drill needs \"drill\"");
	refused("drill: d\n" STEPS, "t.yaml:1:1: a drill needs \"summary\"");
	refused(HEAD, "t.yaml:1:1: a drill needs \"steps\"");
	refused(HEAD "stepz: []\n", "t.yaml:3:1: unknown key \"stepz\" in a drill; it has: drill, ");
	refused(HEAD STEPS "drill: e\n", "t.yaml:5:1: \"drill\" is there twice");
	refused(HEAD "Drill: d\n" STEPS, "t.yaml:3:1: unknown key \"Drill\"");
	refused(HEAD "[a]: d\n" STEPS, "t.yaml:3:1: expected a key, found a list");
	refused("{}: d\n" HEAD STEPS, "t.yaml:1:1: expected a key, found a mapping");
	refused("drill: [d]\nsummary: s\n" STEPS, "t.yaml:1:8: expected a text, found a list");
	refused(HEAD "sources: {a: b}\n" STEPS,
		"t.yaml:3:10: expected a text or a list of texts, found a mapping");
	refused(HEAD "sources: [[a]]\n" STEPS, "t.yaml:3:11: expected a text, found a list");
	refused(HEAD "steadyState: 3\n" STEPS,
		"t.yaml:3:14: expected steadyState as a mapping, found a scalar");
	refused(HEAD "steadyState: {nodes: 3}\n" STEPS,
		"t.yaml:3:15: unknown key \"nodes\" in steadyState; it has: instances, lag, for, limit");
	refused(HEAD "probes: {x: 1}\n" STEPS, "t.yaml:3:10: unknown key \"x\" in probes; it has: ");
	refused(HEAD "recovery: {x: 1}\n" STEPS,
		"t.yaml:3:12: unknown key \"x\" in recovery; it has: limit");
	refused(HEAD "abort: {x: 1}\n" STEPS, "t.yaml:3:9: unknown key \"x\" in abort; it has: ");
}

Test(drill_errors, values)
{
	refused(HEAD "steadyState: {instances: 0}\n" STEPS, "t.yaml:3:26: ");
	refused(HEAD "steadyState: {instances: 101}\n" STEPS, "t.yaml:3:26: ");
	refused(HEAD "steadyState: {instances: many}\n" STEPS, "t.yaml:3:26: ");
	refused(HEAD "steadyState: {lag: big}\n" STEPS, "t.yaml:3:20: ");
	refused(HEAD "steadyState: {lag: 0}\n" STEPS, "t.yaml:3:20: expected more than 0");
	refused(HEAD "steadyState: {for: 5}\n" STEPS, "t.yaml:3:20: ");
	refused(HEAD "steadyState: {limit: 0}\n" STEPS, "t.yaml:3:22: expected more than 0");
	refused(HEAD "probes: {interval: 0}\n" STEPS, "t.yaml:3:20: expected 1ms to 1m");
	refused(HEAD "probes: {interval: 999us}\n" STEPS, "t.yaml:3:20: expected 1ms to 1m");
	refused(HEAD "probes: {fresh: 1h}\n" STEPS, "t.yaml:3:17: expected 1ms to 1m");
	refused(HEAD "probes: {slow: -1s}\n" STEPS, "t.yaml:3:16: ");
	refused(HEAD "recovery: {limit: 0}\n" STEPS, "t.yaml:3:19: expected more than 0");
	refused(HEAD "abort: {time: 0}\n" STEPS, "t.yaml:3:15: expected more than 0");
	refused(HEAD "abort: {lag: []}\n" STEPS,
		"t.yaml:3:14: expected an amount such as 16MiB, found a list");
	refused(HEAD "abort: {writesDown: 99999999999h}\n" STEPS, "t.yaml:3:21: ");
}

Test(drill_errors, steps)
{
	refused(HEAD "steps: []\n", "t.yaml:3:8: expected at least one step");
	refused(HEAD "steps: wait\n", "t.yaml:3:8: expected steps as a list, found a scalar");
	refused(HEAD "steps: [wait]\n", "t.yaml:3:9: expected a step as a mapping, found a scalar");
	refused(HEAD "steps: [[]]\n", "t.yaml:3:9: expected at least one step");
	refused(HEAD "steps:\n  - parallel: []\n", "t.yaml:4:15: expected at least one step");
	refused(HEAD "steps:\n  - {}\n", "t.yaml:4:5: a step is one of inject, wait, revert, parallel, "
					 "repeat; this has 0 of them");
	refused(HEAD "steps:\n  - wait: 1s\n    revert: all\n",
		"t.yaml:4:5: a step is one of inject, wait, revert, parallel, repeat; this has 2");
	refused(HEAD "steps:\n  - wait: 1s\n    target: primary\n",
		"t.yaml:4:5: name, target, for, params and mayMiss belong to inject");
	refused(HEAD "steps:\n  - wait: 1s\n    name: x\n",
		"t.yaml:4:5: name, target, for, params and mayMiss belong to inject");
	refused(HEAD "steps:\n  - revert: all\n    limit: 1s\n",
		"t.yaml:4:5: limit and mayFail belong to wait");
	refused(HEAD "steps:\n  - repeat: 3\n", "t.yaml:4:5: repeat: COUNT and steps: go together");
	refused(HEAD "steps:\n  - wait: 1s\n    steps: []\n",
		"t.yaml:4:5: repeat: COUNT and steps: go together");
	refused(HEAD "steps:\n  - repeat: 0\n    steps:\n      - wait: 1s\n", "t.yaml:4:13: ");
	refused(HEAD "steps:\n  - repeat: 1001\n    steps:\n      - wait: 1s\n", "t.yaml:4:13: ");
	refused(HEAD "steps:\n  - repeat: 2\n    steps: []\n",
		"t.yaml:5:12: expected at least one step");
	refused(HEAD "steps:\n  - wait: 1s\n    what: x\n", "t.yaml:5:5: unknown key \"what\" in a step");
	refused(HEAD "steps:\n  - wait: 1s\n    wait: 2s\n", "t.yaml:5:5: \"wait\" is there twice");
}

Test(drill_errors, waits)
{
	refused(HEAD "steps:\n  - wait: soon\n",
		"t.yaml:4:11: wait: \"soon\": expected promoted, demoted, streaming, writes, ");
	refused(HEAD "steps:\n  - wait: time\n", "t.yaml:4:11: wait: time needs \"limit\"");
	refused(HEAD "steps:\n  - wait: 5s\n    limit: 9s\n",
		"t.yaml:5:12: a wait for a duration has no limit");
	refused(HEAD "steps:\n  - wait: writes\n    limit: 5\n", "t.yaml:5:12: ");
	refused(HEAD "steps:\n  - wait: writes\n    mayFail: yes\n",
		"t.yaml:5:14: expected true or false, found \"yes\"");
	refused(HEAD "steps:\n  - wait: [1s]\n",
		"t.yaml:4:11: expected a condition or a duration, found a list");
}

Test(drill_errors, injections)
{
	refused(HEAD "steps:\n  - inject: net-partition\n    for: 5s\n",
		"t.yaml:4:5: inject needs \"target\"");
	refused(HEAD "steps:\n  - inject: net-partition\n    target: primary\n",
		"t.yaml:4:5: inject needs \"for\"");
	refused(HEAD "steps:\n  - inject: net-partitio\n    target: primary\n    for: 1s\n",
		"t.yaml:4:13: ");
	refused(HEAD "steps:\n  - inject: net-partition\n    target: master\n    for: 1s\n",
		"t.yaml:5:13: target \"master\": expected primary, ");
	refused(HEAD "steps:\n  - inject: net-partition\n    target: primary\n    for: 1us\n",
		"t.yaml:6:10: \"for\" must be at least 1ms");
	refused(HEAD INJECT "    params: [peers]\n", "t.yaml:7:13: expected parameters as a mapping");
	refused(HEAD INJECT "    params: {peers: all, percent: 150%}\n", "t.yaml:7:35: net-partition: percent: ");
	refused(HEAD INJECT "    params: {peers: all, colour: red}\n", "t.yaml:7:13: ");
	refused(HEAD INJECT "    params: {peers: 10.0.0.1/99}\n", "t.yaml:7:21: net-partition: peers: ");
	refused(HEAD INJECT "    params: {peers: {a: b}}\n",
		"t.yaml:7:21: expected a parameter's value, found a mapping");
	refused(HEAD INJECT "    params: {peers: all, peers: all}\n",
		"t.yaml:7:26: \"peers\" is there twice");
	refused(HEAD INJECT "    params: {peers: all}\n    name: Cut\n", "t.yaml:8:11: name \"Cut\": ");
	refused(HEAD INJECT "    params: {peers: all}\n    name: all\n", "t.yaml:8:11: name \"all\": ");
	refused(HEAD INJECT "    params: {peers: all}\n    mayMiss: 1\n",
		"t.yaml:8:14: expected true or false");
	refused(HEAD INJECT "    params: {peers: all}\n  - revert: cut\n",
		"t.yaml:8:5: revert: no inject step has the name \"cut\"");
}

Test(drill_errors, expectations)
{
	refused(HEAD STEPS "expect: [ttd]\n", "t.yaml:5:9: expected expect as a mapping");
	refused(HEAD STEPS "expect: {speed: 3}\n", "t.yaml:5:10: \"speed\" cannot be expected");
	refused(HEAD STEPS "expect: {ttd: soon}\n", "t.yaml:5:10: ttd: ");
	refused(HEAD STEPS "expect: {ttd: {most: 1s}}\n", "t.yaml:5:10: ttd: \"most\" is no bound");
	refused(HEAD STEPS "expect: {ttd: {max: 1s, max: 2s}}\n", "t.yaml:5:25: \"max\" is there twice");
	refused(HEAD STEPS "expect: {ttd: [1s]}\n", "t.yaml:5:15: expected what is expected, found a list");
	refused(HEAD STEPS "expect: {lostCommits: -1}\n", "t.yaml:5:10: lostCommits: ");
	refused(HEAD STEPS "expect: {splitBrain: some}\n", "t.yaml:5:10: splitBrain: ");
}

Test(drill_errors, variables)
{
	refused(HEAD "vars: [a]\n" STEPS, "t.yaml:3:7: expected vars as a mapping");
	refused(HEAD "vars: {A: 1}\n" STEPS, "t.yaml:3:8: variable \"A\": ");
	refused(HEAD "vars: {a: 1, a: 2}\n" STEPS, "t.yaml:3:14: \"a\" is there twice");
	refused(HEAD "vars: {a: [1]}\n" STEPS, "t.yaml:3:11: expected a variable's value, found a list");
	refused(HEAD "vars: {a: 1, b: \"${a}\"}\n" STEPS, "t.yaml:3:17: no variable \"a\" in vars");
	refused(HEAD "expectedBehaviour: ${x}\n" STEPS, "t.yaml:3:20: no variable \"x\" in vars");
	refused(HEAD "expectedBehaviour: 5$\n" STEPS, "t.yaml:3:20: \"$\" begins a variable");
	refused(HEAD "expectedBehaviour: ${x\n" STEPS, "t.yaml:3:20: \"$\" begins a variable");
	refused(HEAD "expectedBehaviour: $x}\n" STEPS, "t.yaml:3:20: \"$\" begins a variable");
	refused(HEAD "expectedBehaviour: ${}\n" STEPS, "t.yaml:3:20: no variable \"\" in vars");
}

Test(drill_errors, aliases_and_documents)
{
	refused(HEAD "sources: &a [x]\nexpectedBehaviour: *a\n" STEPS,
		"t.yaml:1:1: aliases (*name) are not allowed");
	refused(HEAD "sources: &a [x, *a]\n" STEPS, "t.yaml:3:10: aliases (*name) are not allowed");
	refused(HEAD "sources: *a\n" STEPS, "t.yaml:3:10: found undefined alias");
	refused(HEAD STEPS "---\ndrill: e\n", "t.yaml:5:1: one document a file");
	refused(HEAD STEPS "---\n[\n", "t.yaml:");
	refused(HEAD "steps:\n\t- wait: 1s\n", "t.yaml:4:1: ");
	refused(HEAD "steps: [\n", "t.yaml:4:1: ");
	refused(HEAD "summary: \"x\n", "t.yaml:");
}

static void refused_bytes(const char *text, size_t length, const char *words)
{
	_cleanup_free_ char *said = refusal_of(text, length, NULL);

	cr_assert(strncmp(said, words, strlen(words)) == 0, "said: %s\nwanted: %s", said, words);
}
#define BYTES(text) text, sizeof(text) - 1

Test(drill_errors, bytes)
{
	refused_bytes(BYTES("drill: d\nsum\0mary: s\n"), "t.yaml:2:4: control characters");
	refused_bytes(BYTES("drill: d\nsummary: \xff\n"), "t.yaml:2:10: ");
	refused_bytes(BYTES("drill: \xc3\xa4\x01\n"), "t.yaml:1:9: control characters");
	refused_bytes(BYTES("drill: d\nsummary: \"a\\0b\"\n" STEPS), "t.yaml:2:10: a NUL byte in a text");
	refused_bytes(BYTES(HEAD "\"steps\\0\": [{wait: 1s}]\n"), "t.yaml:3:1: a NUL byte in a key");
	refused_bytes(BYTES("\xef\xbb\xbf"), "t.yaml:1:1: the file is empty");
	refused_bytes(BYTES("\x7f""ELF\x02\x01\x01"), "t.yaml:1:1: ");
}

/* Every single byte cut off or changed: an error or a drill, never a crash. */
Test(drill_errors, cut_and_changed)
{
	const struct builtin_drill *b = builtin_drills;
	_cleanup_free_ char *text = malloc(b->length);

	for (size_t i = 0; i < b->length; i++) {
		struct drill *d = NULL;

		memcpy(text, b->text, b->length);
		if (drill_parse("t.yaml", text, i, NULL, &d, NULL) == 0)
			drill_free(d);
		text[i] ^= (char)(1 << (i % 8));
		d = NULL;
		if (drill_parse("t.yaml", text, b->length, NULL, &d, NULL) == 0)
			drill_free(d);
	}
}

static char *repeated(const char *head, const char *part, size_t n, const char *tail)
{
	size_t length = strlen(part);
	char *text = malloc(strlen(head) + n * length + strlen(tail) + 1), *p;

	cr_assert_not_null(text);
	p = stpcpy(text, head);
	for (size_t i = 0; i < n; i++)
		p = stpcpy(p, part);
	strcpy(p, tail);
	return text;
}

Test(drill_errors, hostile_sizes, .timeout = 50)
{
	_cleanup_free_ char *long_text = repeated(HEAD STEPS "expectedBehaviour: ", "x", 1 << 20, "\n");
	_cleanup_free_ char *deep = repeated(HEAD "steps: ", "[", 5000, "");
	_cleanup_free_ char *nested = repeated(HEAD "steps: ", "[", 9, "{wait: 1s}]]]]]]]]]");
	_cleanup_free_ char *fits = repeated(HEAD "steps: ", "[", 8, "{wait: 1s}]]]]]]]]");
	_cleanup_free_ char *keys = repeated(HEAD "vars: {", "a: 1, ", 300, "}\n" STEPS);
	_cleanup_free_ char *anchors = strdup(HEAD "sources:\n - &a0 [x, x]\n");

	refused(long_text, "t.yaml: longer than 1048576 bytes");
	refused(deep, "t.yaml:");
	refused(nested, "t.yaml:3:16: steps nest deeper than 8");
	drill_free(parsed(fits));
	refused(keys, "t.yaml:3:7: more than 256 keys in vars");
	/* Each doubles the one before: 2^30 nodes for who follows them. */
	for (int i = 1; i < 30; i++) {
		char *longer = NULL;

		cr_assert_gt(asprintf(&longer, "%s - &a%d [*a%d, *a%d]\n", anchors, i, i - 1, i - 1), 0);
		free(anchors);
		anchors = longer;
	}
	refused(anchors, "t.yaml:");
}
