#include "core/json.h"
#include "verbs.h"

struct options {
	bool json;
};

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err);

	if (r < 0)
		return r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	if (o.json)
		printf("{\"version\": \"%s\"}\n", PGJOLT_VERSION);
	else
		printf("pgjolt %s\n", PGJOLT_VERSION);
	return EXIT_PASSED;
}

static const struct cli_option options[] = {
	{"json", CLI_FLAG, offsetof(struct options, json), NULL, "print one JSON document", NULL},
};

const struct cli_verb verb_version = {
	.name = "version",
	.summary = "print the version",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
