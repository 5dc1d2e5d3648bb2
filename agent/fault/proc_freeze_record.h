/* What proc-freeze leaves in the journal, how that is undone and looked at; and its probe. */
#pragma once

#include "core/err.h"
#include "fault/fault.h"
#include "hold/ptrace_hold.h"

/* {"mechanism": "ptrace", "processes": [{"pid", "start_ticks"}]}: to look at alone. */
cJSON *freeze_record_ptrace(const struct ptrace_held *held, size_t count);
/* {"mechanism": "cgroup", "file", "mark"}. mark: what tells our freeze from somebody else's; NULL where
 * the file takes none, and then whatever froze it is undone. */
cJSON *freeze_record_cgroup(const char *file, const char *mark);

/* The mark is an extended attribute of the freezer's file (trusted.*, xattr(7)): it is made just before
 * the freeze and lives as long as the group, so it needs no write to a disk in between. */
bool freeze_mark_possible(const char *file);
int freeze_mark_set(const char *file, const char *mark, struct err **err);

int freeze_record_revert(const struct undo *u, struct err **err);
int freeze_record_verify(const struct undo *u, struct err **err);

int freeze_probe(const struct node *node, struct support *ret, struct err **err);
