/* For a comment on a pull request: verdict, figures, expectations; the rest is in the HTML. */
#include <math.h>
#include <string.h>

#include "report/escape.h"
#include "report/read.h"

static void put(FILE *f, const cJSON *o, const char *name)
{
	escape_markdown(f, report_text(o, name));
}

static void put_head(FILE *f, const cJSON *report)
{
	const char *verdict = report_text_or(report, "verdict", "unknown");
	const cJSON *reason;

	fprintf(f, "### %s ", strcmp(verdict, "passed") == 0 ? "\xe2\x9c\x85" : "\xe2\x9d\x8c");
	put(f, report, "drill");
	fputs(": ", f);
	escape_markdown(f, verdict);
	fputs("\n\nCluster ", f);
	put(f, report, "cluster");
	fputs(" (", f);
	put(f, report, "manager");
	fprintf(f, ", %s), run ", report_true(report, "synchronous") ? "synchronous" : "asynchronous");
	put(f, report, "run");
	fputs(".\n\n", f);
	cJSON_ArrayForEach(reason, report_list(report, "reasons")) {
		fputs("- ", f);
		escape_markdown(f, cJSON_IsString(reason) ? reason->valuestring : "");
		fputc('\n', f);
	}
	cJSON_ArrayForEach(reason, report_list(report, "notes")) {
		fputs("- Note: ", f);
		escape_markdown(f, cJSON_IsString(reason) ? reason->valuestring : "");
		fputc('\n', f);
	}
}

static void put_figures(FILE *f, const cJSON *report)
{
	fputs("\n| figure | | to within |\n|---|---:|---:|\n", f);
	for (size_t i = 0; i < FIGURE_MAX; i++) {
		const struct report_figure_info *figure = &report_figures[i];
		char words[REPORT_WORDS_MAX], text[UNITS_TEXT_MAX];
		double resolution = report_number(report, figure->key) > 0 ?
			report_number(report, figure->resolution_key) : NAN;

		fprintf(f, "| %s | %s | %s |\n", figure->name,
			report_figure(report, (enum report_figure)i, words),
			report_duration(resolution, text));
	}
}

static void put_safety(FILE *f, const cJSON *report)
{
	static const char *const keys[] = {"ok", "unknown", "lost", "recovered", "unexpected"};
	const cJSON *ledger = json_get(report, "ledger"), *split = json_get(report, "split_brain");
	char text[UNITS_TEXT_MAX];

	fputs("\nLedger: ", f);
	if (!report_true(ledger, "checked"))
		fputs("not checked", f);
	for (size_t i = 0; i < ELEMENTS(keys) && report_true(ledger, "checked"); i++) {
		double n = report_number(ledger, keys[i]);
		const char *bold = n > 0 && (i == 2 || i == 4) ? "**" : "";

		fprintf(f, "%s%s%s %s%s", i ? ", " : "", bold, report_count(n, text), keys[i], bold);
	}
	fputs(". Split brain: ", f);
	escape_markdown(f, report_text_or(split, "grade", "unknown"));
	fputs(".\n", f);
}

static void put_expectations(FILE *f, const cJSON *report)
{
	const cJSON *e;

	if (cJSON_GetArraySize(report_list(report, "expectations")) <= 0)
		return;
	fputs("\n| expectation | expected | was | |\n|---|---|---|---|\n", f);
	cJSON_ArrayForEach(e, report_list(report, "expectations")) {
		fputs("| ", f);
		put(f, e, "name");
		fputs(" | ", f);
		put(f, e, "expected");
		fputs(" | ", f);
		put(f, e, "actual");
		fprintf(f, " | %s |\n", report_true(e, "passed") ? "ok" : "**failed**");
	}
}

static void put_milestones(FILE *f, const cJSON *report)
{
	const cJSON *all = json_get(report, "milestones_ms");
	char text[UNITS_TEXT_MAX];

	fputs("\n<details><summary>Milestones</summary>\n\n| | | from the fault on |\n"
	      "|---|---|---:|\n", f);
	for (size_t i = 0; i < MILESTONE_MAX; i++) {
		const struct report_milestone *m = &report_milestones[i];

		report_duration(report_number(all, m->key), text);
		fprintf(f, "| %s | %s | %s |\n", m->name, m->means, *text ? text : "not seen");
	}
	fputs("\n</details>\n", f);
}

int report_write_markdown(FILE *f, const cJSON *report, struct err **err)
{
	put_head(f, report);
	if (!isnan(report_number(report, "t0_ms"))) {
		put_figures(f, report);
		put_safety(f, report);
	}
	put_expectations(f, report);
	if (!isnan(report_number(report, "t0_ms")))
		put_milestones(f, report);
	return report_flush(f, err);
}
