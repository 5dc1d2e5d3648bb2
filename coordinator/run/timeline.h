/* The live timeline: a line an event, and on a terminal one status line below that is redrawn. */
#pragma once

#include <stdio.h>
#include "run/run_record.h"

struct timeline;

/* f: where to; a terminal gets colour and the status line. */
struct timeline *timeline_new(FILE *f);
void timeline_event(struct timeline *t, const struct run_record *r, const struct run_event *e);
/* text: one line; only on a terminal, at most five times a second. */
void timeline_status(struct timeline *t, const char *text);
/* Removes the status line. */
void timeline_free(struct timeline *t);
