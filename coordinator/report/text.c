/* What a terminal shows at the end of a run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_text.h"
#include "report/read.h"

enum paint { PLAIN, BOLD, DIM, GOOD, BAD, WARN };

struct page {
	FILE *f;
	const cJSON *report;
	bool colour;
};

static void paint(const struct page *p, enum paint with)
{
	static const char *const codes[] = {
		[PLAIN] = "\033[0m", [BOLD] = "\033[1m", [DIM] = "\033[2m", [GOOD] = "\033[1;32m",
		[BAD] = "\033[1;31m", [WARN] = "\033[1;33m",
	};

	if (p->colour)
		fputs(codes[with], p->f);
}

/* Names come from elsewhere: nothing in them may steer the terminal. */
static void put(const struct page *p, const char *s)
{
	const char *end = s + strlen(s);

	while (s < end) {
		size_t n = utf8_sequence(s, end);
		unsigned char first = (unsigned char)s[0];
		bool control = first < ' ' || first == 0x7f ||
			(n == 2 && first == 0xc2 && (unsigned char)s[1] < 0xa0);

		if (n == 0 || control)
			fputc('?', p->f);
		else
			fwrite(s, 1, n, p->f);
		s += n ? n : 1;
	}
}

static void put_painted(const struct page *p, enum paint with, const char *s)
{
	paint(p, with);
	put(p, s);
	paint(p, PLAIN);
}

static void heading(const struct page *p, const char *text)
{
	fputc('\n', p->f);
	put_painted(p, BOLD, text);
	fputc('\n', p->f);
}

static enum paint verdict_paint(const char *verdict)
{
	if (strcmp(verdict, "passed") == 0)
		return GOOD;
	return strcmp(verdict, "refused") == 0 || strcmp(verdict, "aborted") == 0 ? WARN : BAD;
}

static void put_verdict(const struct page *p)
{
	const char *verdict = report_text_or(p->report, "verdict", "unknown");
	char upper[16] = "";
	const cJSON *reason;

	for (size_t i = 0; verdict[i] && i < sizeof(upper) - 1; i++)
		upper[i] = verdict[i] >= 'a' && verdict[i] <= 'z' ?
			(char)(verdict[i] - 'a' + 'A') : verdict[i];
	put_painted(p, verdict_paint(verdict), upper);
	fputs("  ", p->f);
	put(p, report_text(p->report, "drill"));
	fputs(" on ", p->f);
	put(p, report_text(p->report, "cluster"));
	fputs(" (", p->f);
	put(p, report_text_or(p->report, "manager", "unknown manager"));
	fprintf(p->f, ", %s)  ", report_true(p->report, "synchronous") ? "synchronous" : "asynchronous");
	put_painted(p, DIM, report_text(p->report, "run"));
	fputc('\n', p->f);
	cJSON_ArrayForEach(reason, report_list(p->report, "reasons")) {
		fputs("  - ", p->f);
		put(p, cJSON_IsString(reason) ? reason->valuestring : "");
		fputc('\n', p->f);
	}
	cJSON_ArrayForEach(reason, report_list(p->report, "notes")) {
		fputs("  note: ", p->f);
		put(p, cJSON_IsString(reason) ? reason->valuestring : "");
		fputc('\n', p->f);
	}
}

static void put_milestones(const struct page *p)
{
	const cJSON *all = json_get(p->report, "milestones_ms");
	char text[UNITS_TEXT_MAX];

	heading(p, "Milestones, from the fault on");
	for (size_t i = 0; i < MILESTONE_MAX; i++) {
		const struct report_milestone *m = &report_milestones[i];
		double ms = report_number(all, m->key);

		fprintf(p->f, "  %s  %-28s ", m->name, m->means);
		if (isnan(ms))
			put_painted(p, DIM, "           -");
		else
			fprintf(p->f, "%12s", report_duration(ms, text));
		fputc('\n', p->f);
	}
}

static void put_figures(const struct page *p)
{
	heading(p, "Figures");
	for (size_t i = 0; i < FIGURE_MAX; i++) {
		const struct report_figure_info *f = &report_figures[i];
		char words[REPORT_WORDS_MAX], text[UNITS_TEXT_MAX];
		double resolution = report_number(p->report, f->resolution_key);
		double ms = report_number(p->report, f->key);

		fprintf(p->f, "  %-24s ", f->name);
		fprintf(p->f, "%12s", report_figure(p->report, (enum report_figure)i, words));
		if (!isnan(resolution) && !isnan(ms) && ms > 0) {
			paint(p, DIM);
			fprintf(p->f, "   to within %s", report_duration(resolution, text));
			paint(p, PLAIN);
		}
		fputc('\n', p->f);
	}
}

static void put_ledger(const struct page *p)
{
	static const char *const keys[] = {"attempted", "ok", "failed", "unknown", "lost",
		"recovered", "unexpected"};
	const cJSON *ledger = json_get(p->report, "ledger");
	const cJSON *split = json_get(p->report, "split_brain");
	const char *grade = report_text_or(split, "grade", "unknown");
	char text[UNITS_TEXT_MAX];
	double dual = report_number(split, "dual_writable_ms");
	bool checked = report_true(ledger, "checked");

	heading(p, "Ledger and split brain");
	fputs("  writes  ", p->f);
	for (size_t i = 0; i < (checked ? ELEMENTS(keys) : 4); i++) {
		double n = report_number(ledger, keys[i]);
		bool bad = n > 0 && (i == 4 || i == 6);

		fputs(i ? ", " : "", p->f);
		if (bad)
			paint(p, BAD);
		fprintf(p->f, "%s %s", report_count(n, text), keys[i]);
		if (bad)
			paint(p, PLAIN);
	}
	if (!checked) {
		fputs("\n  ", p->f);
		put_painted(p, WARN, "the ledger was not checked");
		fputs(*report_text(ledger, "error") ? ": " : "", p->f);
		put(p, report_text(ledger, "error"));
	}
	fputs("\n  split brain  ", p->f);
	put_painted(p, strcmp(grade, "none") ? BAD : PLAIN, grade);
	if (dual > 0)
		fprintf(p->f, ", two took writes for %s", report_duration(dual, text));
	fputc('\n', p->f);
}

static void put_fault(const struct page *p, const cJSON *f)
{
	char at[UNITS_TEXT_MAX], took[UNITS_TEXT_MAX], held[UNITS_TEXT_MAX], hits[UNITS_TEXT_MAX];
	double fired = report_number(f, "fired_ms"), t0 = report_number(p->report, "t0_ms");
	bool clean = report_true(f, "verified_clean");

	fputs("  ", p->f);
	put(p, report_text(f, "fault"));
	fputs(" on ", p->f);
	put(p, report_text_or(f, "instance", "an unknown instance"));
	if (isnan(fired)) {
		fputs(": not fired", p->f);
	} else {
		report_duration(report_number(f, "reverted_ms") - fired, held);
		fprintf(p->f, ": at %s, in %s, %s%s%s, %s hit%s, ", fired == t0 ? "T0" :
			report_duration(fired - t0, at),
			report_duration(report_number(f, "fire_us") / 1000, took),
			*held ? "for " : "with no end seen", held,
			*held && report_true(f, "target_gone") ? " until its instance ended" : "",
			report_count(report_number(f, "hits"), hits),
			report_number(f, "hits") == 1 ? "" : "s");
		put_painted(p, clean ? PLAIN : BAD, clean ? "verified clean" : "NOT verified clean");
	}
	if (*report_text(f, "mechanism")) {
		fputs(" (", p->f);
		put(p, report_text(f, "mechanism"));
		fputs(", ", p->f);
		put(p, report_text(f, "lifetime"));
		fputc(')', p->f);
	}
	if (*report_text(f, "error")) {
		fputs("\n    ", p->f);
		put_painted(p, BAD, report_text(f, "error"));
	}
	fputc('\n', p->f);
}

static void put_expectations(const struct page *p)
{
	const cJSON *e;

	heading(p, "Expectations");
	cJSON_ArrayForEach(e, report_list(p->report, "expectations")) {
		bool passed = report_true(e, "passed");

		fputs("  ", p->f);
		put_painted(p, passed ? GOOD : BAD, passed ? "ok    " : "FAILED");
		fputs("  ", p->f);
		put(p, report_text(e, "name"));
		fputs(": ", p->f);
		put(p, report_text(e, "actual"));
		fputs(" (expected ", p->f);
		put(p, report_text(e, "expected"));
		fputs(")\n", p->f);
	}
}

int report_write_text(FILE *f, const cJSON *report, bool colour, struct err **err)
{
	struct page p = {f, report, colour};
	const cJSON *fault;

	put_verdict(&p);
	if (!isnan(report_number(report, "t0_ms"))) {
		put_milestones(&p);
		put_figures(&p);
		put_ledger(&p);
	}
	if (cJSON_GetArraySize(report_list(report, "faults")) > 0) {
		heading(&p, "Faults");
		cJSON_ArrayForEach(fault, report_list(report, "faults"))
			put_fault(&p, fault);
	}
	if (cJSON_GetArraySize(report_list(report, "expectations")) > 0)
		put_expectations(&p);
	return report_flush(f, err);
}
