#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/wire.h"
#include "drill/drill.h"
#include "table.h"
#include "verbs.h"

struct options {
	bool json, names;
};

/* A built-in one as it was written; a file as it would run. */
static void print_text(const char *name, const struct drill *d)
{
	_cleanup_free_ char *yaml = NULL;

	for (const struct builtin_drill *b = builtin_drills; b->name; b++) {
		if (strcmp(b->name, name) == 0) {
			fwrite(b->text, 1, b->length, stdout);
			return;
		}
	}
	yaml = drill_to_yaml(d);
	fputs(yaml, stdout);
}

static int list(const struct options *o, struct err **err)
{
	static const char *const heads[] = {"DRILL", "SUMMARY", NULL};
	struct table *t = table_new(heads);
	_cleanup_json_ cJSON *all = json_array();
	int r = 0;

	for (const struct builtin_drill *b = builtin_drills; r >= 0 && b->name; b++) {
		_cleanup_(drill_freep) struct drill *d = NULL;
		cJSON *item, *vars;

		r = drill_load(b->name, NULL, &d, err);
		if (r < 0)
			break;
		table_add(t, (const char *[]){d->name, d->summary});
		item = json_object();
		vars = json_object();
		json_add_string(item, "drill", d->name);
		json_add_string(item, "summary", d->summary);
		json_add_string(item, "expected_behaviour", d->expected);
		json_add_strv(item, "sources", d->sources);
		for (size_t i = 0; i < d->n_vars; i++)
			json_add_string(vars, d->vars[i].name, d->vars[i].value);
		json_add_item(item, "vars", vars);
		json_append(all, item);
	}
	if (r >= 0 && o->json) {
		_cleanup_free_ char *text = json_print_pretty(all);

		puts(text);
	} else if (r >= 0) {
		table_print(t, stdout);
		printf("\n`pgjolt drills NAME` prints the file: what is right, the steps, the variables "
		       "for --set.\n");
	}
	table_free(t);
	return r;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_(drill_freep) struct drill *d = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err);

	if (r == -ECANCELED)
		return EXIT_PASSED;
	if (r >= 0 && strv_length(arguments) > 1)
		r = err_set(&err, -EINVAL, "one drill at a time");
	if (r < 0)
		return cli_usage(verb, err);
	if (o.names) {
		for (const struct builtin_drill *b = builtin_drills; b->name; b++)
			puts(b->name);
		return EXIT_PASSED;
	}
	if (!arguments)
		return list(&o, &err) < 0 ? cli_fail(err) : EXIT_PASSED;
	if (drill_load(arguments[0], NULL, &d, &err) < 0)
		return cli_fail(err);
	if (o.json) {
		_cleanup_free_ char *yaml = drill_to_yaml(d);
		_cleanup_json_ cJSON *json = json_object();
		_cleanup_free_ char *text = NULL;

		json_add_string(json, "drill", d->name);
		json_add_string(json, "summary", d->summary);
		json_add_string(json, "yaml", yaml);
		text = json_print_pretty(json);
		puts(text);
	} else {
		print_text(arguments[0], d);
	}
	return EXIT_PASSED;
}

static const struct cli_option options[] = {
	{"json", CLI_FLAG, offsetof(struct options, json), NULL, "print one JSON document", NULL},
	{"names", CLI_FLAG, offsetof(struct options, names), NULL, "names alone", NULL},
};

const struct cli_verb verb_drills = {
	.name = "drills",
	.arguments = "[NAME]",
	.summary = "the built-in drills, or one as a file",
	.complete = "@drills",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
