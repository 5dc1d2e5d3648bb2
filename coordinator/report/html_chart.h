/* Between the files that draw over the chart's time axis. */
#pragma once

#include "report/html.h"

struct chart {
	FILE *f;
	const cJSON *report;
	double t0;		/* NAN: no fault fired */
	double bucket_ms, from_ms, to_ms;
	size_t buckets;
	size_t merge;		/* buckets a column */
};

/* Of the width; what lies beyond an end is at it. */
double chart_percent(const struct chart *c, double ms);

/* html_milestones.c: the milestones' names above the lanes, and their lines and the faults' windows over them. */
void chart_put_flags(const struct chart *c);
void chart_put_over(const struct chart *c);
