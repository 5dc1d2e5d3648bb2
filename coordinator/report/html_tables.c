#include "report/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void cell(FILE *f, const char *text)
{
	fputs("<td>", f);
	escape_markup(f, *text ? text : "\xe2\x80\x93");
	fputs("</td>", f);
}

static void number_cell(FILE *f, const char *text)
{
	fputs("<td class=\"num\">", f);
	escape_markup(f, *text ? text : "\xe2\x80\x93");
	fputs("</td>", f);
}

static void begin_table(FILE *f, const char *id, const char *head)
{
	fprintf(f, "<div class=\"scroll\"><table class=\"data\"%s><thead><tr>%s</tr></thead><tbody>\n",
		id, head);
}

static void end_table(FILE *f)
{
	fputs("</tbody></table></div>\n", f);
}

static void put_milestones(FILE *f, const cJSON *report)
{
	const cJSON *all = json_get(report, "milestones_ms");
	char text[UNITS_TEXT_MAX];

	fputs("<section><h2>Milestones</h2>\n", f);
	begin_table(f, "", "<th></th><th>what</th><th class=\"num\">from T0 on</th>");
	for (size_t i = 0; i < MILESTONE_MAX; i++) {
		const struct report_milestone *m = &report_milestones[i];
		double ms = report_number(all, m->key);

		fprintf(f, "<tr><td><strong>%s</strong></td><td>%s</td>", m->name, m->means);
		number_cell(f, isnan(ms) ? "not seen" : report_duration(ms, text));
		fputs("</tr>\n", f);
	}
	end_table(f);
	fputs("</section>\n", f);
}

static void put_figures(FILE *f, const cJSON *report)
{
	fputs("<section><h2>Figures</h2>\n", f);
	begin_table(f, "", "<th>figure</th><th class=\"num\">was</th>"
		"<th class=\"num\">to within</th>");
	for (size_t i = 0; i < FIGURE_MAX; i++) {
		const struct report_figure_info *info = &report_figures[i];
		char words[REPORT_WORDS_MAX], text[UNITS_TEXT_MAX];

		fprintf(f, "<tr><td>%s<br><span class=\"muted\">%s</span></td>", info->name,
			info->means);
		number_cell(f, report_figure(report, (enum report_figure)i, words));
		number_cell(f, report_duration(report_number(report, info->key) > 0 ?
			report_number(report, info->resolution_key) : NAN, text));
		fputs("</tr>\n", f);
	}
	end_table(f);
	fputs("</section>\n", f);
}

static void put_expectations(FILE *f, const cJSON *report)
{
	const cJSON *e;

	if (cJSON_GetArraySize(report_list(report, "expectations")) <= 0)
		return;
	fputs("<section><h2>Expectations</h2>\n", f);
	begin_table(f, "", "<th>name</th><th>expected</th><th>was</th><th></th>");
	cJSON_ArrayForEach(e, report_list(report, "expectations")) {
		fputs("<tr>", f);
		cell(f, report_text(e, "name"));
		cell(f, report_text(e, "expected"));
		cell(f, report_text(e, "actual"));
		fputs(report_true(e, "passed") ? "<td class=\"good\">\xe2\x9c\x93 ok</td></tr>\n" :
						 "<td class=\"bad\">\xe2\x9c\x97 failed</td></tr>\n",
			f);
	}
	end_table(f);
	fputs("</section>\n", f);
}

static void put_ledger(FILE *f, const cJSON *report)
{
	static const struct {
		const char *key, *means;
		bool bad;
	} rows[] = {
		{"attempted", "writes begun", false},
		{"ok", "acknowledged", false},
		{"failed", "certainly not done", false},
		{"unknown", "no answer, or one that leaves it open", false},
		{"lost", "acknowledged and not found after the heal", true},
		{"recovered", "unknown and found", false},
		{"unexpected", "found and never written", true},
	};
	const cJSON *ledger = json_get(report, "ledger"), *key;

	fputs("<section><h2>Ledger</h2>\n", f);
	if (!report_true(ledger, "checked")) {
		fputs("<p class=\"warn\">The rows were not compared with the ledger. ", f);
		escape_markup(f, report_text(ledger, "error"));
		fputs("</p>\n", f);
	}
	begin_table(f, "", "<th>writes</th><th class=\"num\">count</th><th></th>");
	/* What only the comparison can tell comes last. */
	for (size_t i = 0; i < (report_true(ledger, "checked") ? ELEMENTS(rows) : 4); i++) {
		char text[UNITS_TEXT_MAX];
		double n = report_number(ledger, rows[i].key);

		fprintf(f, "<tr><td%s>%s</td>", rows[i].bad && n > 0 ? " class=\"bad\"" : "",
			rows[i].key);
		number_cell(f, report_count(n, text));
		fprintf(f, "<td class=\"muted\">%s</td></tr>\n", rows[i].means);
	}
	end_table(f);
	if (cJSON_GetArraySize(report_list(report, "lost_keys")) > 0) {
		fputs("<details><summary>The first lost writes</summary><pre>", f);
		cJSON_ArrayForEach(key, report_list(report, "lost_keys")) {
			char text[UNITS_TEXT_MAX];

			escape_markup(f, report_text_or(key, "client", "an unknown client"));
			fprintf(f, " %s\n", report_count(report_number(key, "sequence"), text));
		}
		fputs("</pre></details>\n", f);
	}
	fputs("</section>\n", f);
}

static void put_json(FILE *f, const char *title, const cJSON *json)
{
	_cleanup_free_ char *text = NULL;

	if (!json || (!cJSON_IsObject(json) && !cJSON_IsArray(json)) || !json->child)
		return;
	text = json_print_pretty(json);
	fprintf(f, "<details><summary>%s</summary><pre>", title);
	escape_markup(f, text);
	fputs("</pre></details>", f);
}

static void put_fault(FILE *f, const cJSON *report, const cJSON *fault)
{
	double fired = report_number(fault, "fired_ms"), t0 = report_number(report, "t0_ms");
	char text[UNITS_TEXT_MAX];
	bool clean = report_true(fault, "verified_clean");

	fputs("<tr><td><strong>", f);
	escape_markup(f, report_text(fault, "fault"));
	fputs("</strong><br><span class=\"muted mono\">", f);
	escape_markup(f, report_text(fault, "experiment"));
	fputs("</span>", f);
	put_json(f, "parameters", json_get(fault, "params"));
	put_json(f, "evidence", json_get(fault, "evidence"));
	if (report_true(fault, "target_gone"))
		fputs("<div class=\"muted\">its instance ended, and it with it</div>", f);
	if (*report_text(fault, "error")) {
		fputs("<div class=\"bad\">", f);
		escape_markup(f, report_text(fault, "error"));
		fputs("</div>", f);
	}
	fputs("</td>", f);
	cell(f, report_text(fault, "instance"));
	fputs("<td>", f);
	escape_markup(f, report_text(fault, "mechanism"));
	fputs("<br><span class=\"muted\">", f);
	escape_markup(f, report_text(fault, "lifetime"));
	fputs("</span></td>", f);
	number_cell(f, fired == t0 ? "T0" : isnan(fired) ? "not fired" :
		report_duration(fired - t0, text));
	number_cell(f, report_duration(report_number(fault, "fire_us") / 1000, text));
	number_cell(f, report_duration(report_number(fault, "reverted_ms") - fired, text));
	number_cell(f, report_count(report_number(fault, "hits"), text));
	fprintf(f, "<td class=\"%s\">%s</td></tr>\n", clean ? "good" : "bad",
		clean ? "\xe2\x9c\x93 verified" : "\xe2\x9c\x97 not verified");
}

static void put_faults(FILE *f, const cJSON *report)
{
	const cJSON *fault;

	if (cJSON_GetArraySize(report_list(report, "faults")) <= 0)
		return;
	fputs("<section><h2>Faults</h2>\n", f);
	begin_table(f, "", "<th>fault</th><th>instance</th><th>mechanism, lifetime</th>"
		"<th class=\"num\">fired</th><th class=\"num\">took</th>"
		"<th class=\"num\">active for</th><th class=\"num\">hits</th><th>clean</th>");
	cJSON_ArrayForEach(fault, report_list(report, "faults"))
		put_fault(f, report, fault);
	end_table(f);
	fputs("</section>\n", f);
}

static void put_instances(FILE *f, const cJSON *report)
{
	const cJSON *i;
	const char *old = report_text(report, "old_primary"), *new = report_text(report, "new_primary");

	if (cJSON_GetArraySize(report_list(report, "instances")) <= 0)
		return;
	fputs("<section><h2>Instances</h2>\n", f);
	begin_table(f, "", "<th>instance</th><th>pod</th><th>node</th><th>address</th>"
		"<th>role at the start</th><th></th>");
	cJSON_ArrayForEach(i, report_list(report, "instances")) {
		const char *name = report_text(i, "name");
		const char *last = report_text(i, "last_node");
		_cleanup_free_ char *node = NULL;

		if (asprintf(&node, "%s%s%s", report_text(i, "node"), *last ? ", then " : "", last) < 0)
			abort();
		fputs("<tr>", f);
		cell(f, name);
		cell(f, report_text(i, "pod"));
		cell(f, node);
		cell(f, report_text(i, "address"));
		cell(f, report_text(i, "role"));
		cell(f, *name && strcmp(name, new) == 0 ? "new primary" :
			*name && strcmp(name, old) == 0 ? "primary when the fault fired" : "");
		fputs("</tr>\n", f);
	}
	end_table(f);
	fputs("</section>\n", f);
}

static void put_events(FILE *f, const cJSON *report)
{
	const cJSON *e;
	double t0 = report_number(report, "t0_ms");

	fputs("<section><h2>Events</h2>\n", f);
	begin_table(f, " id=\"events\"", "<th class=\"num\">from T0 on</th><th>kind</th>"
		"<th>instance</th><th>what</th>");
	cJSON_ArrayForEach(e, report_list(report, "events")) {
		double at = report_number(e, "at_ms") - (isnan(t0) ? 0 : t0);

		fputs("<tr data-kind=\"", f);
		escape_markup(f, report_text(e, "kind"));
		if (isnan(at))
			fputs("\"><td></td>", f);
		else
			fprintf(f, "\"><td class=\"num\">%.3f s</td>", round(at) / 1000 + 0.0);
		cell(f, report_text(e, "kind"));
		cell(f, report_text(e, "instance"));
		cell(f, report_text(e, "text"));
		fputs("</tr>\n", f);
	}
	end_table(f);
	fputs("</section>\n", f);
}

void html_tables(FILE *f, const cJSON *report)
{
	bool fired = !isnan(report_number(report, "t0_ms"));

	put_expectations(f, report);
	if (fired) {
		fputs("<div class=\"columns\">\n", f);
		put_milestones(f, report);
		put_figures(f, report);
		fputs("</div>\n", f);
	}
	put_faults(f, report);
	fputs("<div class=\"columns\">\n", f);
	if (fired)
		put_ledger(f, report);
	put_instances(f, report);
	fputs("</div>\n", f);
	put_events(f, report);
}
