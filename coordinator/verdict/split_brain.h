/* Two primaries at one time, in grades. */
#pragma once

#include "verdict/verdict.h"

/* Fills the grade, the overlaps and superseded_acks. */
void split_brain_compute(const struct run_record *r, struct verdict *v);
