/* A run on paper. Each format is one file here. Every writer takes the record and its verdict. */
#pragma once

#include <stdio.h>
#include "verdict/verdict.h"

/* The document of `pgjolt run --json` and report.json. Caller deletes. */
cJSON *report_json(const struct run_record *r, const struct verdict *v);
/* Back from report.json (events, milestones, buckets; attempts are not in it but per-100-ms sums
 * are), so that every format can be written later from the run's folder. */
int report_write_text(FILE *f, const cJSON *report, bool colour, struct err **err);
int report_write_html(FILE *f, const cJSON *report, struct err **err);
int report_write_junit(FILE *f, const cJSON *report, struct err **err);
int report_write_markdown(FILE *f, const cJSON *report, struct err **err);
