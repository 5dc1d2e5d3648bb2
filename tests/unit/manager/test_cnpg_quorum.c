#include "data.h"

#include "manager/cnpg_quorum.h"

#define ON "{\"postgresql\": {\"synchronous\": {\"number\": 1, \"failoverQuorum\": true}}}"
#define OFF "{\"postgresql\": {\"synchronous\": {\"number\": 1}}}"
#define READY(name, ready) "{\"metadata\": {\"name\": \"" name "\"}, \"status\": {\"conditions\": [" \
	"{\"type\": \"Ready\", \"status\": \"" ready "\"}]}}"

/* status: of the FailoverQuorum; NULL: there is none. *ret: what it says. */
static enum cnpg_quorum judged(const char *spec, const char *annotations, const char *status, char **ret)
{
	static const char *const list[] = {READY("a-1", "False"), READY("a-2", "True"), READY("a-3", "True"),
		READY("a-4", "False")};
	_cleanup_free_ char *cluster_text = NULL, *quorum_text = NULL;
	_cleanup_json_ cJSON *cluster = NULL, *quorum = NULL;
	struct pod pods[ELEMENTS(list)] = {0};
	enum cnpg_quorum q;

	cr_assert_gt(asprintf(&cluster_text, "{\"metadata\": {\"name\": \"a\", \"annotations\": %s}, \"spec\": %s,"
		"\"status\": {\"currentPrimary\": \"a-1\"}}", annotations, spec), 0);
	cluster = data_parse(cluster_text);
	if (status) {
		cr_assert_gt(asprintf(&quorum_text, "{\"metadata\": {\"name\": \"a\"}, \"status\": %s}", status), 0);
		quorum = data_parse(quorum_text);
	}
	for (size_t i = 0; i < ELEMENTS(list); i++) {
		_cleanup_json_ cJSON *pod = data_parse(list[i]);

		cr_assert_eq(pod_read(pod, &pods[i], NULL), 0);
	}
	q = cnpg_quorum_judge(cluster, quorum, pods, ELEMENTS(pods), ret);
	for (size_t i = 0; i < ELEMENTS(list); i++)
		pod_done(&pods[i]);
	return q;
}

/* The operator's own unit tests have the first four. */
Test(cnpg_quorum, what_the_operator_makes_of_it)
{
	static const struct {
		const char *status;
		enum cnpg_quorum q;
		const char *word;
	} cases[] = {
		{"{\"standbyNumber\": 0, \"standbyNames\": [\"a-2\"]}", QUORUM_RESET, "(no method) 0 of a-2;"},
		{"{\"standbyNumber\": 3}", QUORUM_RESET, "3 of nobody;"},
		{"{\"standbyNumber\": 1, \"standbyNames\": [\"a-2\", \"a-4\"]}", QUORUM_REFUSES,
			"were a-1 lost now, a failover would be refused by the quorum: R 1 (ready of them) + W 1 is not "
			"above N 2"},
		{"{\"standbyNumber\": 1, \"standbyNames\": [\"a-2\", \"a-3\"]}", QUORUM_ALLOWS, "R 2"},
		{"{\"standbyNumber\": 2, \"standbyNames\": [\"a-2\", \"a-4\"]}", QUORUM_ALLOWS, "R 1 "},
		/* A set: each counts once, and the one that is lost is no candidate. */
		{"{\"standbyNumber\": 1, \"standbyNames\": [\"a-2\", \"a-2\", \"a-2\"]}", QUORUM_ALLOWS, "above N 1"},
		{"{\"standbyNumber\": 1, \"standbyNames\": [\"a-1\", \"a-2\"]}", QUORUM_REFUSES, "R 1 "},
		{"{\"standbyNumber\": 1, \"standbyNames\": [\"gone\"]}", QUORUM_REFUSES, "R 0 "},
		{"{\"method\": \"ANY\", \"standbyNumber\": 1, \"standbyNames\": [\"a-3\"], \"primary\": \"a-9\"}",
			QUORUM_ALLOWS, "quorum: ANY 1 of a-3, told by a-9; were a-1 lost"},
		{"{}", QUORUM_RESET, "quorum: it is empty; a failover would be refused until"},
		{NULL, QUORUM_RESET, "there is no FailoverQuorum; a failover would be refused until"},
	};

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_free_ char *text = NULL;

		cr_expect_eq(judged(ON, "{}", cases[i].status, &text), cases[i].q, "case %zu: %s", i, text);
		cr_expect(text && strstr(text, cases[i].word), "case %zu: %s", i, text);
	}
}

Test(cnpg_quorum, asked_for)
{
	static const char status[] = "{\"standbyNumber\": 1, \"standbyNames\": [\"gone\"]}";
	static const struct {
		const char *spec, *annotations;
		enum cnpg_quorum q;
	} cases[] = {
		{ON, "{}", QUORUM_REFUSES},
		{OFF, "{}", QUORUM_OFF},
		{"{}", "{\"alpha.cnpg.io/failoverQuorum\": \"true\"}", QUORUM_OFF},	/* nothing is synchronous */
		{OFF, "{\"alpha.cnpg.io/failoverQuorum\": \"true\"}", QUORUM_REFUSES},
		{ON, "{\"alpha.cnpg.io/failoverQuorum\": \"false\"}", QUORUM_OFF},
		{ON, "{\"alpha.cnpg.io/failoverQuorum\": \"what\"}", QUORUM_REFUSES},
		{"{\"postgresql\": {\"synchronous\": {\"failoverQuorum\": \"true\"}}}", "{}", QUORUM_OFF},
	};
	char *none = (char *)"untouched";

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_free_ char *text = NULL;

		cr_expect_eq(judged(cases[i].spec, cases[i].annotations, status, &text), cases[i].q, "case %zu", i);
		if (cases[i].q == QUORUM_OFF)
			cr_expect_str_eq(text, "quorum: (no method) 1 of gone; it is not in force", "case %zu", i);
	}
	cr_expect_eq(judged(OFF, "{}", NULL, &none), QUORUM_OFF);
	cr_expect_null(none);
}

/* Of any type and length, and with what a terminal would obey. */
Test(cnpg_quorum, hostile)
{
	static const struct {
		const char *status;
		enum cnpg_quorum q;
	} cases[] = {
		{"{\"method\": 7, \"standbyNumber\": \"1\", \"standbyNames\": \"a-2\", \"primary\": []}", QUORUM_RESET},
		{"{\"standbyNumber\": 1e300, \"standbyNames\": [\"a-2\"]}", QUORUM_RESET},
		{"{\"standbyNumber\": -1, \"standbyNames\": [\"a-2\"]}", QUORUM_RESET},
		{"{\"standbyNumber\": 1, \"standbyNames\": [null, 7, \"\", {}]}", QUORUM_RESET},
		{"[]", QUORUM_RESET},
		{"{\"method\": \"\\u001b[2J\", \"standbyNumber\": 1, \"standbyNames\": [\"a-2\\r\\n\"], \"primary\": \"\\u009b\"}",
			QUORUM_REFUSES},
	};
	_cleanup_free_ char *many = strdup("{\"standbyNumber\": 1, \"standbyNames\": [\"a-2\""), *said = NULL;

	for (size_t i = 0; i < ELEMENTS(cases); i++) {
		_cleanup_free_ char *text = NULL;

		cr_expect_eq(judged(ON, "{}", cases[i].status, &text), cases[i].q, "case %zu", i);
		for (const char *p = text; *p; p++)
			cr_expect(*p >= ' ' && *p < 0x7f, "case %zu: %s", i, text);
	}
	for (int i = 0; i < 200; i++) {
		char *longer = NULL;

		cr_assert_gt(asprintf(&longer, "%s, \"%0200d\"", many, i), 0);
		free(many);
		many = longer;
	}
	many = realloc(many, strlen(many) + 3);
	strcat(many, "]}");
	cr_expect_eq(judged(ON, "{}", many, &said), QUORUM_RESET, "more than any cluster has");
	cr_expect_lt(strlen(said), 1500);
	cr_expect(strstr(said, " and others;"), "%s", said);
}

Test(cnpg_quorum, words)
{
	char word[CNPG_WORD], longest[200];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	cr_expect_str_eq(cnpg_word(word, NULL), "");
	cr_expect_str_eq(cnpg_word(word, "2026-08-21T09:00:12.345678Z"), "2026-08-21T09:00:12.345678Z");
	cr_expect_str_eq(cnpg_word(word, "a b\x1b[m\xc3\xa9"), "a?b?[m??");
	cr_expect_eq(strlen(cnpg_word(word, longest)), CNPG_WORD - 1);
	cr_expect_str_eq(word + CNPG_WORD - 5, "x...");
	longest[CNPG_WORD - 1] = '\0';
	cr_expect_str_eq(cnpg_word(word, longest), longest, "what fits is not cut");
}
