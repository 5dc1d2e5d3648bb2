/* What clock-skew leaves in the journal, how that is undone and looked at; and its probe. */
#pragma once

#include <stdint.h>
#include "core/err.h"
#include "fault/fault.h"

/* Random, never 0, below 2^53, where JSON keeps a number a number. */
int clock_token_draw(uint64_t *ret, struct err **err);

/* {"token"}: the patch carries it, so the processes themselves tell which are skewed. */
cJSON *clock_record(uint64_t token);

int clock_record_revert(const struct undo *u, struct err **err);
int clock_record_verify(const struct undo *u, struct err **err);

/* Skews a process of its own by an hour and asks it for the time. */
int clock_probe(const struct node *node, struct support *ret, struct err **err);
