/* JUnit's XML as CI systems read it: a case for the verdict and one for each expectation. */
#include <math.h>
#include <string.h>

#include "report/escape.h"
#include "report/read.h"

static void attribute(FILE *f, const char *name, const char *value)
{
	fprintf(f, " %s=\"", name);
	escape_markup(f, value);
	fputc('"', f);
}

static void begin_case(FILE *f, const cJSON *report, const char *name, const char *suffix)
{
	fputs("    <testcase classname=\"pgjolt.", f);
	escape_markup(f, report_text(report, "drill"));
	fputs("\" name=\"", f);
	escape_markup(f, name);
	if (*suffix) {
		fputs(": ", f);
		escape_markup(f, suffix);
	}
	fputc('"', f);
}

static double seconds(const cJSON *report)
{
	double ms = report_number(report, "duration_ms");

	return isnan(ms) ? 0 : ms / 1000;
}

/* A drill that failed is a failure; one that could not run to its end is an error. */
static const char *verdict_element(const char *verdict)
{
	if (strcmp(verdict, "passed") == 0)
		return NULL;
	return strcmp(verdict, "failed") == 0 ? "failure" : "error";
}

static void verdict_case(FILE *f, const cJSON *report)
{
	const char *verdict = report_text_or(report, "verdict", "unknown");
	const char *element = verdict_element(verdict);
	const cJSON *reason;

	begin_case(f, report, "verdict", "");
	fprintf(f, " time=\"%.3f\"", seconds(report));
	if (!element) {
		fputs("/>\n", f);
		return;
	}
	fprintf(f, ">\n      <%s", element);
	attribute(f, "message", verdict);
	fputc('>', f);
	cJSON_ArrayForEach(reason, report_list(report, "reasons")) {
		escape_markup(f, cJSON_IsString(reason) ? reason->valuestring : "");
		fputc('\n', f);
	}
	fprintf(f, "</%s>\n    </testcase>\n", element);
}

static void expectation_case(FILE *f, const cJSON *report, const cJSON *e)
{
	begin_case(f, report, report_text(e, "name"), report_text(e, "expected"));
	if (report_true(e, "passed")) {
		fputs(" time=\"0\"/>\n", f);
		return;
	}
	fputs(" time=\"0\">\n      <failure message=\"", f);
	escape_markup(f, report_text(e, "actual"));
	fputs(" (expected ", f);
	escape_markup(f, report_text(e, "expected"));
	fputs(")\"/>\n    </testcase>\n", f);
}

static void properties(FILE *f, const cJSON *report)
{
	static const char *const names[] = {"run", "cluster", "manager", "started"};

	fputs("    <properties>\n", f);
	for (size_t i = 0; i < ELEMENTS(names); i++) {
		fputs("      <property", f);
		attribute(f, "name", names[i]);
		attribute(f, "value", report_text(report, names[i]));
		fputs("/>\n", f);
	}
	fputs("    </properties>\n", f);
}

int report_write_junit(FILE *f, const cJSON *report, struct err **err)
{
	const cJSON *list = report_list(report, "expectations"), *e;
	const char *element = verdict_element(report_text_or(report, "verdict", "unknown"));
	int failures = element && strcmp(element, "failure") == 0;
	int errors = element && !failures, tests = 1;

	cJSON_ArrayForEach(e, list) {
		tests++;
		failures += !report_true(e, "passed");
	}
	fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<testsuites tests=\"%d\" failures=\"%d\" errors=\"%d\">\n  <testsuite", tests,
		failures, errors);
	attribute(f, "name", report_text(report, "drill"));
	fprintf(f, " tests=\"%d\" failures=\"%d\" errors=\"%d\" time=\"%.3f\"", tests, failures,
		errors, seconds(report));
	attribute(f, "timestamp", report_text(report, "started"));
	fputs(">\n", f);
	properties(f, report);
	verdict_case(f, report);
	cJSON_ArrayForEach(e, list)
		expectation_case(f, report, e);
	fputs("  </testsuite>\n</testsuites>\n", f);
	return report_flush(f, err);
}
