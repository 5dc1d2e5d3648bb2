/* T0..T8 and what follows from them; each fills its part of the verdict. */
#pragma once

#include "verdict/series.h"

/* T0, the old primary and its timeline; then T1..T8, the outages, the figures, the resolutions. */
void milestones_compute(const struct run_record *r, struct verdict *v);
/* T8, and whether redundancy was lost. Needs T0, T5 and the outages. */
void redundancy_compute(const struct run_record *r, struct verdict *v);
