/* What proc-freeze leaves in the journal, how that is undone and looked at; and its probe. */
#pragma once

#include "core/err.h"
#include "fault/fault.h"
#include "hold/ptrace_hold.h"

/* {"mechanism": "ptrace", "processes": [{"pid", "start_ticks"}]}: to look at alone. */
cJSON *freeze_record_ptrace(const struct ptrace_held *held, size_t count);
/* {"mechanism": "cgroup", "file"} */
cJSON *freeze_record_cgroup(const char *file);

int freeze_record_revert(const struct undo *u, struct err **err);
int freeze_record_verify(const struct undo *u, struct err **err);

int freeze_probe(const struct node *node, struct support *ret, struct err **err);
