/* The drill's expectations, and all else that makes it fail, held against what the run saw. */
#pragma once

#include "verdict/verdict.h"

/* Fills v->results from r->expectations. All figures are there. */
void judge_expectations(const struct run_record *r, struct verdict *v);
/* Adds a line to v->reasons. */
void verdict_reason(struct verdict *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
