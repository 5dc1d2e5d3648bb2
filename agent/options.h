/* Arguments of pgjolt-agent: verbs and their options, from one table that also writes --help. */
#pragma once

#include <stdbool.h>
#include "agent.h"

enum verb { VERB_SERVE, VERB_PROBE, VERB_REVERT_ALL, VERB_VERSION, VERB_MAX };

struct options {
	enum verb verb;
	bool help;		/* of the verb, or of the program where no verb was given */
	bool has_verb;
	bool json;
	bool discard_bad;
	bool has_require_label;	/* given, so no default */
	struct agent_config config;
};

/* -EINVAL with words. Whatever the outcome, options_done() frees. */
int options_parse(int argc, char **argv, struct options *ret, struct err **err);
void options_done(struct options *o);
void options_help(const struct options *o);
