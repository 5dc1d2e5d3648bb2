/* pgjolt-agent: arguments, then the verb. */
#include <stdio.h>
#include "core/log.h"
#include "kernel/cgroup.h"
#include "options.h"
#include "verbs.h"

static int run(struct options *o)
{
	_cleanup_err_ struct err *err = NULL;

	if (o->help) {
		options_help(o);
		return EXIT_CODE_DONE;
	}
	if (o->verb == VERB_VERSION) {
		printf("pgjolt-agent %s\n", PGJOLT_VERSION);
		return EXIT_CODE_DONE;
	}
	if (privileges_check(&err) < 0) {
		fprintf(stderr, "pgjolt-agent: %s\n", err_text(err));
		return EXIT_CODE_REFUSED;
	}
	/* Before any thread is there: each has its own. Without, groups outside of ours cannot be written to. */
	if (cgroup_enter_node(&err) < 0)
		log_debug("%s", err_text(err));
	switch (o->verb) {
	case VERB_SERVE:
		return verb_serve(o);
	case VERB_PROBE:
		return verb_probe(o);
	case VERB_REVERT_ALL:
		return verb_revert_all(o);
	default:
		return EXIT_CODE_USAGE;
	}
}

int main(int argc, char **argv)
{
	_cleanup_err_ struct err *err = NULL;
	struct options options;
	int code;

	if (options_parse(argc, argv, &options, &err) < 0) {
		fprintf(stderr, "pgjolt-agent: %s\nTry 'pgjolt-agent --help'.\n", err_text(err));
		code = EXIT_CODE_USAGE;
	} else {
		code = run(&options);
	}
	options_done(&options);
	return code;
}
