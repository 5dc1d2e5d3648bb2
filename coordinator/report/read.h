/*
 * Reading a report's document for the writers: whatever is missing or of another type is empty, and what
 * several formats say alike is said here.
 */
#pragma once

#include "core/units.h"
#include "report/report.h"

/* Member's text, or "". */
const char *report_text(const cJSON *o, const char *name);
/* Member's text, or otherwise. */
const char *report_text_or(const cJSON *o, const char *name, const char *otherwise);
/* Member's finite number, or NAN. */
double report_number(const cJSON *o, const char *name);
bool report_true(const cJSON *o, const char *name);
/* Member if it is an array (else an empty one, which is no item: its child is NULL). */
const cJSON *report_list(const cJSON *o, const char *name);

/* "18.62 s", "-5.00 ms"; "" for NAN. */
char *report_duration(double ms, char buf[static UNITS_TEXT_MAX]);
/* A count; "" for NAN. */
char *report_count(double n, char buf[static UNITS_TEXT_MAX]);

struct report_milestone {
	const char *key;	/* of milestones_ms */
	const char *name;	/* "T0" */
	const char *means;
};
extern const struct report_milestone report_milestones[MILESTONE_MAX];

enum report_figure {
	FIGURE_TTD, FIGURE_WRITE_TTR, FIGURE_READ_TTR, FIGURE_FULL_TTR, FIGURE_WRITE_DOWNTIME,
	FIGURE_READ_DOWNTIME, FIGURE_MAX
};
struct report_figure_info {
	const char *key, *resolution_key;
	const char *name, *means;
};
extern const struct report_figure_info report_figures[FIGURE_MAX];

#define REPORT_WORDS_MAX 96
/* The figure, or in words why there is none: "no write failed". */
char *report_figure(const cJSON *report, enum report_figure f, char buf[static REPORT_WORDS_MAX]);

/* 0, or -EIO when something written to f was not taken. */
int report_flush(FILE *f, struct err **err);
