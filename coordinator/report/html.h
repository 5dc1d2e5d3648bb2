/* The parts of the HTML report; each writes one section and bears whatever the document holds. */
#pragma once

#include "report/escape.h"
#include "report/read.h"

/* Milestones as a bar of phases. */
void html_phases(FILE *f, const cJSON *report);
/* Writes and reads over time, with the faults' windows and the milestones; and the data for hovering. */
void html_chart(FILE *f, const cJSON *report);
/* Milestones, figures, expectations, faults, ledger, instances, events. */
void html_tables(FILE *f, const cJSON *report);
