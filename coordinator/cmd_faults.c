#include <stdlib.h>
#include <string.h>

#include "core/catalogue.h"
#include "core/json.h"
#include "run/peers.h"
#include "table.h"
#include "verbs.h"

struct options {
	bool json, names;
	char *format, *values;
};

static void list_text(void)
{
	static const char *const heads[] = {"FAULT", "LIFETIME", "SUMMARY", NULL};
	struct table *t = table_new(heads);

	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		const char *cells[] = {(*f)->name, lifetime_to_string((*f)->lifetime),
			(*f)->summary};

		table_add(t, cells);
	}
	table_print(t, stdout);
	table_free(t);
	printf("\n`pgjolt faults NAME` prints parameters, ranges, defaults and examples.\n");
}

static void list(const struct options *o)
{
	_cleanup_json_ cJSON *all = json_array();
	_cleanup_free_ char *text = NULL;

	if (!o->json && !o->names) {
		list_text();
		return;
	}
	for (const struct fault_spec *const *f = catalogue_faults(); *f; f++) {
		if (o->names)
			printf("%s\n", (*f)->name);
		else
			json_append(all, catalogue_json(*f));
	}
	if (o->json) {
		text = json_print_pretty(all);
		puts(text);
	}
}

/* Of a parameter: what it may be, where that can be listed. */
static int print_values(const struct fault_spec *spec, const char *name, struct err **err)
{
	for (size_t i = 0; i < spec->n_params; i++) {
		const struct param_spec *p = &spec->params[i];

		if (strcmp(p->name, name))
			continue;
		for (size_t k = 0; p->type == PARAM_ENUM && p->choices[k]; k++)
			puts(p->choices[k]);
		for (size_t k = 0; p->type == PARAM_PEERS && peers_name(k); k++)
			puts(peers_name(k));
		return 0;
	}
	return err_set(err, -EINVAL, "--values %s: %s has no such parameter", name, spec->name);
}

static int one(const struct options *o, const char *name, struct err **err)
{
	const struct fault_spec *spec;
	_cleanup_json_ cJSON *json = NULL;
	_cleanup_free_ char *text = NULL;
	int r = catalogue_find(name, &spec, err);

	if (r < 0)
		return r;
	if (o->values)
		return print_values(spec, o->values, err);
	if (o->names) {
		for (size_t i = 0; i < spec->n_params; i++)
			printf("--%s\n", spec->params[i].name);
		return 0;
	}
	if (o->json) {
		json = catalogue_json(spec);
		text = json_print_pretty(json);
	} else if (o->format && strcmp(o->format, "markdown") == 0) {
		text = catalogue_markdown(spec);
	} else {
		text = catalogue_help(spec);
	}
	fputs(text, stdout);
	if (text[0] && text[strlen(text) - 1] != '\n')
		putchar('\n');
	return 0;
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err);

	if (r >= 0 && o.format && strcmp(o.format, "text") && strcmp(o.format, "markdown"))
		r = err_set(&err, -EINVAL, "--format %s: text or markdown", o.format);
	if (r >= 0 && strv_length(arguments) > 1)
		r = err_set(&err, -EINVAL, "one fault at a time, given were %zu",
			strv_length(arguments));
	if (r >= 0 && o.values && !arguments)
		r = err_set(&err, -EINVAL, "--values goes with one fault");
	if (r >= 0 && arguments)
		r = one(&o, arguments[0], &err);
	else if (r >= 0)
		list(&o);
	free(o.format);
	free(o.values);
	if (r == -ECANCELED)
		return EXIT_PASSED;
	return r < 0 ? cli_usage(verb, err) : EXIT_PASSED;
}

static const struct cli_option options[] = {
	{"json", CLI_FLAG, offsetof(struct options, json), NULL, "print one JSON document", NULL},
	{"names", CLI_FLAG, offsetof(struct options, names), NULL,
		"names alone: the faults', or one fault's parameters as options", NULL},
	{"values", CLI_TEXT, offsetof(struct options, values), "PARAMETER",
		"what one fault's parameter may be, where that can be listed", NULL},
	{"format", CLI_TEXT, offsetof(struct options, format), "FORMAT",
		"of one fault's page: text (default) or markdown", "text markdown"},
};

const struct cli_verb verb_faults = {
	.name = "faults",
	.arguments = "[NAME]",
	.summary = "what can be injected, and each fault's parameters",
	.complete = "@faults",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
