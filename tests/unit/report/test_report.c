#include <math.h>
#include "report/read.h"
#include "unit/verdict/record.h"

typedef int (*writer)(FILE *f, const cJSON *report, struct err **err);

static int write_plain(FILE *f, const cJSON *report, struct err **err)
{
	return report_write_text(f, report, false, err);
}

static int write_colour(FILE *f, const cJSON *report, struct err **err)
{
	return report_write_text(f, report, true, err);
}

static const writer writers[] = {write_plain, write_colour, report_write_html, report_write_junit,
	report_write_markdown};

static char *written(writer w, const cJSON *report)
{
	_cleanup_err_ struct err *err = NULL;
	char *text = NULL;
	size_t length;
	FILE *f = open_memstream(&text, &length);

	cr_assert_eq(w(f, report, &err), 0, "%s", err_text(err));
	cr_assert_eq(fclose(f), 0);
	return text;
}

static cJSON *report_of(const struct run_record *r)
{
	_cleanup_(verdict_freep) struct verdict *v = verdict_compute(r);

	return report_json(r, v);
}

static void contains(const char *text, const char *part, int line)
{
	cr_assert(strstr(text, part), "line %d: \"%s\" is not in:\n%.3000s", line, part, text);
}
#define HAS(text, part)	   contains(text, part, __LINE__)
#define HAS_NOT(text, part) cr_assert_null(strstr(text, part), "\"%s\" is in it", part)

static struct run_record *full(void)
{
	struct run_record *r = failover();

	expect(r, "writeTtr", "max", "10s");
	expect(r, "writeTtr", "max", "1s");
	r->ledger.attempted = 700;
	r->ledger.ok = 690;
	r->ledger.lost = 2;
	r->ledger.lost_keys = calloc(2, sizeof(*r->ledger.lost_keys));
	r->ledger.lost_keys[0].sequence = 41;
	r->ledger.lost_keys[1].client = 99;
	r->ledger.n_lost_keys = 2;
	return r;
}

/* What programs rely on: names and types. */
Test(report, json_has_its_keys)
{
	static const char *const strings[] = {"run", "drill", "cluster", "verdict", "manager",
		"started"};
	static const char *const numbers[] = {"version", "ttd_ms", "write_ttr_ms", "full_ttr_ms",
		"write_downtime_ms", "read_downtime_ms", "resolution_ms", "duration_ms", "t0_ms"};
	static const char *const arrays[] = {"faults", "expectations", "events", "reasons",
		"notes", "instances", "clients", "lost_keys"};
	static const char *const counts[] = {"attempted", "ok", "failed", "unknown", "lost",
		"recovered", "unexpected"};
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	const cJSON *m = json_get(o, "milestones_ms"), *f;

	for (size_t i = 0; i < ELEMENTS(strings); i++)
		cr_assert(cJSON_IsString(json_get(o, strings[i])), "%s", strings[i]);
	for (size_t i = 0; i < ELEMENTS(numbers); i++)
		cr_assert(cJSON_IsNumber(json_get(o, numbers[i])), "%s", numbers[i]);
	for (size_t i = 0; i < ELEMENTS(arrays); i++)
		cr_assert(cJSON_IsArray(json_get(o, arrays[i])), "%s", arrays[i]);
	for (size_t i = 0; i < ELEMENTS(counts); i++)
		cr_assert(cJSON_IsNumber(json_get(json_get(o, "ledger"), counts[i])), "%s",
			counts[i]);
	cr_assert_eq(report_number(m, "t0"), 0);
	cr_assert_float_eq(report_number(m, "t5"), 3602, 0.001);
	cr_assert_not_null(cJSON_GetObjectItem(m, "t6"));
	cr_assert(cJSON_IsNull(cJSON_GetObjectItem(m, "t6")));
	cr_assert(cJSON_IsNull(cJSON_GetObjectItem(o, "read_ttr_ms")));
	cr_assert_str_eq(report_text(o, "verdict"), "failed");
	cr_assert_str_eq(report_text(o, "started"), "2023-11-14T22:13:20.000Z");
	cr_assert_str_eq(report_text(json_get(o, "split_brain"), "grade"), "none");
	cr_assert_eq(report_number(json_get(o, "split_brain"), "dual_writable_ms"), 0);

	f = cJSON_GetArrayItem(json_get(o, "faults"), 0);
	cr_assert_str_eq(report_text(f, "fault"), "net-partition");
	cr_assert_str_eq(report_text(f, "instance"), "lab/pg1");
	cr_assert_eq(report_number(f, "fired_ms"), 1000);
	cr_assert_eq(report_number(f, "armed_ms"), 950);
	cr_assert_eq(report_number(f, "reverted_ms"), 8000);
	cr_assert_eq(report_number(f, "fire_us"), 9);
	cr_assert_eq(report_number(f, "hits"), 123);
	cr_assert(report_true(f, "verified_clean"));
	cr_assert(cJSON_IsObject(json_get(f, "params")));

	f = cJSON_GetArrayItem(json_get(o, "expectations"), 1);
	cr_assert_str_eq(report_text(f, "name"), "writeTtr");
	cr_assert_str_eq(report_text(f, "expected"), "at most 1s");
	cr_assert_str_eq(report_text(f, "actual"), "3.60 s");
	cr_assert(cJSON_IsFalse(json_get(f, "passed")));
}

Test(report, series_has_every_attempt)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	const cJSON *series = json_get(o, "series"), *client;
	static const char *const keys[OUTCOME_MAX] = {"ok", "failed", "unknown"};
	double sum = 0;

	cr_assert_eq(report_number(series, "bucket_ms"), 100);
	cJSON_ArrayForEach(client, json_get(series, "clients")) {
		for (size_t i = 0; i < OUTCOME_MAX; i++) {
			const cJSON *n;

			cr_assert_eq(cJSON_GetArraySize(json_get(client, keys[i])),
				(int)report_number(series, "buckets"));
			cJSON_ArrayForEach(n, json_get(client, keys[i]))
				sum += n->valuedouble;
		}
	}
	cr_assert_eq((size_t)sum, r->n_attempts);
	client = cJSON_GetArrayItem(json_get(series, "clients"), W_LONG);
	cr_assert_eq(cJSON_GetArrayItem(json_get(client, "p50_ms"), 2)->valuedouble, 2);
	cr_assert(cJSON_IsNull(cJSON_GetArrayItem(json_get(client, "p50_ms"), 20)));
	cr_assert_eq(cJSON_GetArrayItem(json_get(client, "unknown"), 30)->valuedouble, 1);
}

/* An hour stays a document that can be opened. */
Test(report, long_runs_have_longer_buckets)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new();
	_cleanup_json_ cJSON *o = NULL;
	double buckets;

	attempts(r, W_LONG, 0, 3600000, 1000, OUTCOME_OK, PG1, 1);
	o = report_of(r);
	buckets = report_number(json_get(o, "series"), "buckets");
	cr_assert_leq(buckets, 3001);
	cr_assert_geq(buckets * report_number(json_get(o, "series"), "bucket_ms"), 3600000 - 1000);
}

Test(report, text_says_it)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	_cleanup_free_ char *plain = written(write_plain, o), *colour = written(write_colour, o);

	cr_assert_eq(strncmp(plain, "FAILED  partition-primary on lab (patroni, asynchronous)", 56),
		0, "%s", plain);
	HAS(plain, "2 acknowledged commits were lost (expected 0)");
	HAS(plain, "T5  writes worked again");
	HAS(plain, "3.60 s   to within 100.0 ms");
	HAS(plain, "no read failed");
	HAS(plain, "2 lost");
	HAS(plain, "123 hits, verified clean (tcx, held)");
	HAS(plain, "ok      writeTtr: 3.60 s (expected at most 10s)");
	HAS(plain, "FAILED  writeTtr: 3.60 s (expected at most 1s)");
	HAS_NOT(plain, "\033");
	HAS(colour, "\033[1;31mFAILED");
}

Test(report, says_that_an_instance_took_its_fault_along)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *before = report_of(r), *after = NULL;
	_cleanup_free_ char *plain = NULL, *html = NULL, *markdown = NULL;

	cr_assert(cJSON_IsFalse(json_get(cJSON_GetArrayItem(json_get(before, "faults"), 0), "target_gone")));
	cr_assert_eq(cJSON_GetArraySize(json_get(before, "notes")), 0);
	r->faults[0].target_gone = true;
	after = report_of(r);
	cr_assert(report_true(cJSON_GetArrayItem(json_get(after, "faults"), 0), "target_gone"));
	plain = written(write_plain, after);
	html = written(report_write_html, after);
	markdown = written(report_write_markdown, after);
	HAS(plain, "note: lab/pg1 ended, and net-partition on it with it, 7.00 s after it was fired");
	HAS(plain, "for 7.00 s until its instance ended, 123 hits, verified clean");
	HAS(html, "<li>lab/pg1 ended, and net-partition on it with it");
	HAS(html, "its instance ended, and it with it");
	HAS(markdown, "Note: lab/pg1 ended, and net");
}

Test(report, junit_counts)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	_cleanup_free_ char *xml = written(report_write_junit, o), *aborted = NULL;

	HAS(xml, "<testsuites tests=\"3\" failures=\"2\" errors=\"0\">");
	HAS(xml, "<testcase classname=\"pgjolt.partition-primary\" name=\"verdict\"");
	HAS(xml, "<failure message=\"3.60 s (expected at most 1s)\"/>");
	cJSON_ReplaceItemInObject(o, "verdict", cJSON_CreateString("aborted"));
	aborted = written(report_write_junit, o);
	HAS(aborted, "failures=\"1\" errors=\"1\"");
	HAS(aborted, "<error message=\"aborted\">");
}

Test(report, html_is_one_file_on_its_own)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	_cleanup_free_ char *html = written(report_write_html, o);

	HAS(html, "default-src 'none'");
	HAS(html, "<svg ");
	HAS(html, "class=\"badge failed\"");
	HAS(html, "<td>lab/pg1</td>");
	HAS(html, "id=\"data\"");
	HAS_NOT(html, "http://");
	HAS_NOT(html, "https://");
	HAS_NOT(html, "src=");
	HAS_NOT(html, "@import");
	HAS_NOT(html, "url(");
}

static void rename_to(char **s, const char *name)
{
	free(*s);
	*s = strdup(name);
}

#define EVIL "</script><script>alert(1)</script>\"'><img onerror=x>&\033[2J\n| @root `x`"

Test(report, hostile_names_stay_text)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = NULL;

	rename_to(&r->drill, EVIL);
	rename_to(&r->cluster, EVIL);
	rename_to(&r->instances[0].name, EVIL);
	rename_to(&r->clients[0].name, EVIL);
	rename_to(&r->faults[0].fault, EVIL);
	rename_to(&r->faults[0].mechanism, EVIL);
	rename_to(&r->expectations[0].text, EVIL);
	event(r, 1, EVENT_NOTE, 0, EVIL, 0);
	json_add_string(r->faults[0].params, EVIL, EVIL);
	o = report_of(r);
	for (size_t i = 0; i < ELEMENTS(writers); i++) {
		_cleanup_free_ char *text = written(writers[i], o);

		HAS_NOT(text, "\033[2J");
		if (i < 2)
			continue;
		HAS_NOT(text, "<script>alert");
		HAS_NOT(text, "<img");
		HAS_NOT(text, "'><");
	}
	_cleanup_free_ char *md = written(report_write_markdown, o);
	HAS_NOT(md, "@root");
	HAS_NOT(md, "\n|  ");
}

/* A pod that was made anew elsewhere: both nodes; one that stayed: its own. */
Test(report, tells_where_a_pod_went)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = NULL;
	_cleanup_free_ char *html = NULL;
	const cJSON *instances;

	free(r->instances[0].node);
	free(r->instances[1].node);
	r->instances[0].node = strdup("node-a");
	r->instances[1].node = strdup("node-b");
	r->instances[1].last_node = strdup("node-c");
	o = report_of(r);
	instances = json_get(o, "instances");
	cr_assert_null(json_get(cJSON_GetArrayItem(instances, 0), "last_node"));
	cr_assert_str_eq(json_get(cJSON_GetArrayItem(instances, 1), "last_node")->valuestring, "node-c");
	html = written(report_write_html, o);
	HAS(html, ">node-a</td>");
	HAS(html, ">node-b, then node-c</td>");
}

/* However close they are: none on another one, in a window of a telephone's width. */
Test(report, names_of_milestones_do_not_overlap)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);
	_cleanup_free_ char *html = NULL;
	cJSON *all = (cJSON *)json_get(o, "milestones_ms"), *m;
	double lefts[16];
	unsigned tops[16], n = 0;
	int i = 0;

	cJSON_ArrayForEach(m, all) {
		m->type = cJSON_Number;
		cJSON_SetNumberValue(m, 30.0 * i++);
	}
	html = written(report_write_html, o);
	for (const char *p = html; (p = strstr(p, "class=\"flag\" style=\"")) && n < 16; p++, n++)
		cr_assert_eq(sscanf(p, "class=\"flag\" style=\"left:%lf%%;top:%upx\"", &lefts[n], &tops[n]), 2);
	cr_assert_eq(n, (unsigned)i);
	cr_assert_gt(n, 5);
	for (unsigned a = 0; a < n; a++)
		for (unsigned b = 0; b < a; b++)
			cr_assert(tops[a] != tops[b] || fabs(lefts[a] - lefts[b]) >= 9, "%u and %u", a, b);
}

Test(report, refused_runs_have_a_page_too)
{
	_cleanup_(run_record_freep) struct run_record *r = record_new();
	_cleanup_json_ cJSON *o = NULL;

	r->ended_as = VERDICT_REFUSED;
	r->ended_why = strdup("no steady state: lab/pg3 does not stream");
	o = report_of(r);
	for (size_t i = 0; i < ELEMENTS(writers); i++) {
		_cleanup_free_ char *text = written(writers[i], o);

		HAS(text, "no steady state: lab");
	}
	cr_assert(cJSON_IsNull(cJSON_GetObjectItem(o, "t0_ms")));
}

Test(report, a_full_disk_is_said)
{
	_cleanup_(run_record_freep) struct run_record *r = full();
	_cleanup_json_ cJSON *o = report_of(r);

	for (size_t i = 0; i < ELEMENTS(writers); i++) {
		_cleanup_err_ struct err *err = NULL;
		FILE *f = fopen("/dev/full", "w");

		cr_assert_not_null(f);
		cr_assert_eq(writers[i](f, o, &err), -EIO);
		fclose(f);
	}
}

Test(report, durations)
{
	char text[UNITS_TEXT_MAX];

	cr_assert_str_eq(report_duration(18620, text), "18.62 s");
	cr_assert_str_eq(report_duration(-5, text), "-5.00 ms");
	cr_assert_str_eq(report_duration(0, text), "0");
	cr_assert_str_eq(report_duration(NAN, text), "");
	report_duration(1e300, text);
	report_duration(-1e300, text);
	cr_assert_str_eq(report_count(1e300, text), "1000000000000000");
}
