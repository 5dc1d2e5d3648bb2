/* Milestones: as phases, and over the lanes of the chart. */
#include "report/html_chart.h"

#include <math.h>
#include <stdlib.h>

struct mark {
	double ms;
	const struct report_milestone *milestone;
};

static int by_ms(const void *a, const void *b)
{
	const struct mark *x = a, *y = b;

	return (x->ms > y->ms) - (x->ms < y->ms);
}

/* Known milestones by time; T0 first. */
static size_t find_marks(const cJSON *report, struct mark marks[static MILESTONE_MAX])
{
	const cJSON *all = json_get(report, "milestones_ms");
	size_t n = 0;

	for (size_t i = 0; i < MILESTONE_MAX; i++) {
		double ms = report_number(all, report_milestones[i].key);

		if (!isnan(ms) && ms >= 0)
			marks[n++] = (struct mark){ms, &report_milestones[i]};
	}
	qsort(marks, n, sizeof(*marks), by_ms);
	return n;
}

/* The way to recovery: the readers' part, the old primary's and what took no time are beside it. */
static size_t find_path(const cJSON *report, struct mark marks[static MILESTONE_MAX])
{
	struct mark all[MILESTONE_MAX];
	size_t n = find_marks(report, all), kept = 0;

	for (size_t i = 0; i < n; i++) {
		ptrdiff_t which = all[i].milestone - report_milestones;

		if (which != T6 && which != T7 && (kept == 0 || all[i].ms > marks[kept - 1].ms))
			marks[kept++] = all[i];
	}
	return kept;
}

void html_phases(FILE *f, const cJSON *report)
{
	struct mark marks[MILESTONE_MAX];
	size_t n = find_path(report, marks);
	double end = n ? marks[n - 1].ms : 0;
	char text[UNITS_TEXT_MAX];

	if (n < 2 || end <= 0)
		return;
	fputs("<section><h2>Where the time went</h2>\n<div class=\"phases\" aria-hidden=\"true\">", f);
	for (size_t i = 1; i < n; i++) {
		double width = (marks[i].ms - marks[i - 1].ms) / end * 100;

		/* No room, no words; and less room where the window is narrow. */
		fprintf(f, "<div class=\"p%zu%s\" style=\"width:%.3f%%\">", i - 1,
			width < 15 ? " small" : "", width);
		if (width >= 9)
			fprintf(f, "%s %s", marks[i].milestone->name,
				report_duration(marks[i].ms - marks[i - 1].ms, text));
		fputs("</div>", f);
	}
	fputs("</div>\n<ul class=\"phase-list\">", f);
	for (size_t i = 1; i < n; i++)
		fprintf(f, "<li><i class=\"p%zu\"></i>%s until <strong>%s</strong> %s</li>", i - 1,
			report_duration(marks[i].ms - marks[i - 1].ms, text),
			marks[i].milestone->name, marks[i].milestone->means);
	fputs("</ul></section>\n", f);
}

/* Of the width, that a name may take where the window is as narrow as a telephone's. */
#define FLAG_WIDTH 9
#define FLAG_HEIGHT_PX 19

/* Each in the first row where it does not lie on another one: there are rows for all. Returns how many it took. */
static size_t place_flags(const struct chart *c, const struct mark *marks, size_t n, size_t *rows)
{
	double free_from[MILESTONE_MAX] = {0};
	size_t used = 0;

	for (size_t i = 0; i < n; i++) {
		double x = chart_percent(c, c->t0 + marks[i].ms);
		size_t row = 0;

		while (row < n - 1 && x < free_from[row])
			row++;
		free_from[row] = x + FLAG_WIDTH;
		rows[i] = row;
		used = row + 1 > used ? row + 1 : used;
	}
	return used;
}

void chart_put_flags(const struct chart *c)
{
	struct mark marks[MILESTONE_MAX];
	size_t n = isnan(c->t0) ? 0 : find_marks(c->report, marks), rows[MILESTONE_MAX];
	char text[UNITS_TEXT_MAX];

	fprintf(c->f, "<div class=\"flags\" style=\"height:%zupx\">",
		place_flags(c, marks, n, rows) * FLAG_HEIGHT_PX);
	for (size_t i = 0; i < n; i++)
		fprintf(c->f, "<span class=\"flag\" style=\"left:%.3f%%;top:%zupx\" title=\"%s: %s\">%s"
			"</span>", chart_percent(c, c->t0 + marks[i].ms), rows[i] * FLAG_HEIGHT_PX,
			marks[i].milestone->means, report_duration(marks[i].ms, text),
			marks[i].milestone->name);
	fputs("</div>\n", c->f);
}

void chart_put_over(const struct chart *c)
{
	struct mark marks[MILESTONE_MAX];
	size_t n = isnan(c->t0) ? 0 : find_marks(c->report, marks);
	const cJSON *fault;

	fputs("<div class=\"over\">", c->f);
	cJSON_ArrayForEach(fault, report_list(c->report, "faults")) {
		double fired = report_number(fault, "fired_ms");
		double reverted = report_number(fault, "reverted_ms");

		if (isnan(fired))
			continue;
		fprintf(c->f, "<div class=\"fault\" style=\"left:%.3f%%;width:%.3f%%\"></div>",
			chart_percent(c, fired),
			chart_percent(c, isnan(reverted) ? c->to_ms : fmax(reverted, fired)) -
				chart_percent(c, fired));
	}
	for (size_t i = 0; i < n; i++)
		fprintf(c->f, "<div class=\"mile\" style=\"left:%.3f%%\"></div>",
			chart_percent(c, c->t0 + marks[i].ms));
	fputs("</div>\n", c->f);
}
