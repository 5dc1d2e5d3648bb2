#include <string.h>

#include "core/json.h"
#include "verbs.h"

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, NULL, &arguments, &err);

	if (r == -ECANCELED)
		return EXIT_PASSED;
	if (r >= 0 && strv_length(arguments) == 1) {
		if (strcmp(arguments[0], "bash") == 0) {
			cli_completion_bash(stdout);
			return EXIT_PASSED;
		}
		if (strcmp(arguments[0], "man") == 0) {
			cli_man(stdout);
			return EXIT_PASSED;
		}
	}
	if (r >= 0)
		err_set(&err, -EINVAL, "give one of: bash, man");
	return cli_usage(verb, err);
}

const struct cli_verb verb_completion = {
	.name = "completion",
	.arguments = "bash|man",
	.summary = "print the shell's completion, or the man page",
	.description = "  source <(pgjolt completion bash)\n  pgjolt completion man | man -l -",
	.complete = "bash man",
	.run = run,
};
