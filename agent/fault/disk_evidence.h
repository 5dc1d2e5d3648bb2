/* A gate's counts as evidence. */
#pragma once

#include "core/json.h"
#include "hold/gate.h"

/* Caller deletes. */
cJSON *disk_evidence(const struct gate_counts *c);
