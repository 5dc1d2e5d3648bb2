/* One verb a file, cmd_<verb>.c; main.c has them in their order. */
#pragma once

#include "cli.h"

extern const struct cli_verb verb_run, verb_inject, verb_drills, verb_faults, verb_nodes,
	verb_targets, verb_status, verb_stop, verb_report, verb_certs, verb_completion, verb_version;
