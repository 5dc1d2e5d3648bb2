/*
 * One file that opens without a network and without JavaScript: what is drawn is drawn here, the script only
 * adds hovering and filters. Its policy forbids every request.
 */
#include "report/html.h"

#include <math.h>
#include <string.h>

#include "report/assets.h"

static void put(FILE *f, const cJSON *o, const char *name)
{
	escape_markup(f, report_text(o, name));
}

/* A verdict of a file may be any word, a class may not. */
static const char *badge_class(const char *verdict)
{
	enum run_verdict v;

	return run_verdict_from_string(verdict, &v) < 0 ? "other" : run_verdict_to_string(v);
}

static void put_header(FILE *f, const cJSON *report)
{
	const char *verdict = report_text_or(report, "verdict", "unknown");
	char text[UNITS_TEXT_MAX];

	fprintf(f, "<header><span class=\"badge %s\">", badge_class(verdict));
	escape_markup(f, verdict);
	fputs("</span><h1>", f);
	put(f, report, "drill");
	fputs("</h1><div class=\"sub\">cluster <strong>", f);
	put(f, report, "cluster");
	fputs("</strong> (", f);
	put(f, report, "manager");
	fprintf(f, ", %s) \xc2\xb7 run <code>",
		report_true(report, "synchronous") ? "synchronous" : "asynchronous");
	put(f, report, "run");
	fputs("</code> \xc2\xb7 ", f);
	put(f, report, "started");
	fprintf(f, " \xc2\xb7 took %s</div></header>\n",
		report_duration(report_number(report, "duration_ms"), text));
}

static void put_lines(FILE *f, const cJSON *lines, const char *class)
{
	const cJSON *line;

	if (cJSON_GetArraySize(lines) <= 0)
		return;
	fprintf(f, "<ul class=\"%s\">", class);
	cJSON_ArrayForEach(line, lines) {
		fputs("<li>", f);
		escape_markup(f, cJSON_IsString(line) ? line->valuestring : "");
		fputs("</li>", f);
	}
	fputs("</ul>\n", f);
}

static void put_reasons(FILE *f, const cJSON *report)
{
	put_lines(f, report_list(report, "reasons"), "reasons");
	put_lines(f, report_list(report, "notes"), "muted");
	if (*report_text(report, "summary")) {
		fputs("<p>", f);
		put(f, report, "summary");
		fputs("</p>\n", f);
	}
	if (*report_text(report, "expected_behaviour")) {
		fputs("<p class=\"muted\">Right would be: ", f);
		put(f, report, "expected_behaviour");
		fputs("</p>\n", f);
	}
}

static void tile(FILE *f, const char *name, const char *value, const char *grade, const char *note)
{
	bool words = strlen(value) > 9;

	fprintf(f, "<div class=\"tile\"><div class=\"name\">%s</div><div class=\"value%s\">"
		"<span class=\"%s\">", name, words ? " words" : "", grade);
	escape_markup(f, value);
	fputs("</span></div><div class=\"note\">", f);
	escape_markup(f, note);
	fputs("</div></div>\n", f);
}

static void figure_tile(FILE *f, const cJSON *report, enum report_figure which)
{
	const struct report_figure_info *info = &report_figures[which];
	char words[REPORT_WORDS_MAX], text[UNITS_TEXT_MAX], note[REPORT_WORDS_MAX] = "";
	double resolution = report_number(report, info->resolution_key);

	if (!isnan(resolution) && report_number(report, info->key) > 0)
		snprintf(note, sizeof(note), "to within %s", report_duration(resolution, text));
	report_figure(report, which, words);
	tile(f, info->name, words, strcmp(words, "did not come back") ? "" : "bad", note);
}

static void put_tiles(FILE *f, const cJSON *report)
{
	static const enum report_figure figures[] = {FIGURE_WRITE_TTR, FIGURE_WRITE_DOWNTIME,
		FIGURE_TTD, FIGURE_FULL_TTR};
	const cJSON *ledger = json_get(report, "ledger"), *split = json_get(report, "split_brain");
	const char *grade = report_text_or(split, "grade", "unknown");
	double lost = report_number(ledger, "lost"), dual = report_number(split, "dual_writable_ms");
	bool checked = report_true(ledger, "checked");
	char count[UNITS_TEXT_MAX], text[UNITS_TEXT_MAX], note[REPORT_WORDS_MAX] = "";

	if (isnan(report_number(report, "t0_ms")))
		return;
	fputs("<section class=\"tiles\" aria-label=\"figures\">\n", f);
	for (size_t i = 0; i < ELEMENTS(figures); i++)
		figure_tile(f, report, figures[i]);
	snprintf(note, sizeof(note), "of %s acknowledged",
		report_count(report_number(ledger, "ok"), text));
	tile(f, "lost commits", checked ? report_count(lost, count) : "not checked",
		!checked ? "warn" : lost > 0 ? "bad" : "good", checked ? note : "");
	note[0] = '\0';
	if (dual > 0)
		snprintf(note, sizeof(note), "two took writes for %s", report_duration(dual, text));
	tile(f, "split brain", grade, strcmp(grade, "none") ? "bad" : "good", note);
	fputs("</section>\n", f);
}

int report_write_html(FILE *f, const cJSON *report, struct err **err)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
	      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>", f);
	escape_markup(f, report_text_or(report, "verdict", "unknown"));
	fputs(": ", f);
	put(f, report, "drill");
	fputs(" on ", f);
	put(f, report, "cluster");
	fprintf(f, "</title>\n<style>\n%s</style></head>\n<body>\n", asset_report_css);
	put_header(f, report);
	put_reasons(f, report);
	put_tiles(f, report);
	html_phases(f, report);
	html_chart(f, report);
	html_tables(f, report);
	fputs("<footer>Written by pgjolt. Times are of one clock, the coordinator's; definitions are "
	      "in pgjolt's docs/measuring.md.</footer>\n<script>\n", f);
	fprintf(f, "%s</script>\n</body></html>\n", asset_report_js);
	return report_flush(f, err);
}
