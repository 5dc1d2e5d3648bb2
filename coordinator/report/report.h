/*
 * A run on paper. Each format is one file here. report_json() is made from the record and its verdict;
 * every other format is written from that document alone, so that each can be written later from the
 * run's folder. What is read from a file is hostile: writers bear any shape of it, and escape.
 */
#pragma once

#include <stdio.h>
#include "verdict/verdict.h"

#define REPORT_VERSION 1

/* The document of `pgjolt run --json` and report.json (docs/report.md). Caller deletes. */
cJSON *report_json(const struct run_record *r, const struct verdict *v);
/* One line of events.jsonl, and one of "events". Caller deletes. */
cJSON *run_event_to_json(const struct run_record *record, const struct run_event *e);
/* Attempts as sums of a time each, and the instances' states as spans: for the chart. */
cJSON *report_series(const struct run_record *r);
cJSON *report_states(const struct run_record *r);

/* -EIO with words when f cannot be written. colour: escape sequences of a terminal. */
int report_write_text(FILE *f, const cJSON *report, bool colour, struct err **err);
int report_write_html(FILE *f, const cJSON *report, struct err **err);
int report_write_junit(FILE *f, const cJSON *report, struct err **err);
int report_write_markdown(FILE *f, const cJSON *report, struct err **err);
