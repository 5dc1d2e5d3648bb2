/* What pgjolt-agent does; each returns its exit code, having said on stderr what went wrong. */
#pragma once

#include "options.h"

enum exit_code {
	EXIT_CODE_DONE = 0,
	EXIT_CODE_FAILED = 1,
	EXIT_CODE_USAGE = 2,
	EXIT_CODE_REFUSED = 3,	/* no right to, or another agent is there */
	EXIT_CODE_LEFT = 5,	/* something could not be reverted */
};

int verb_serve(struct options *o);
int verb_probe(struct options *o);
int verb_revert_all(struct options *o);
/* -EPERM naming what is missing. */
int privileges_check(struct err **err);
