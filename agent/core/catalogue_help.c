#include "core/catalogue.h"

#include <stdio.h>
#include <string.h>

#define WIDTH 80

/* What ends the fault when its agent dies, in words. */
static const char *lifetime_says(enum lifetime lifetime)
{
	switch (lifetime) {
	case LIFETIME_HELD:
		return "lives in the agent's descriptors, so the kernel ends it when the agent dies";
	case LIFETIME_EXPIRING:
		return "carries its own deadline and goes inert by itself";
	default:
		return "stays until it is reverted; the journal names it, and the agent reverts it "
		       "when it starts again";
	}
}

/* Words of text from column `indent` on; a new line in it is one, an empty line a paragraph. */
static void wrap(FILE *f, const char *text, size_t indent)
{
	size_t column = 0;

	while (*text) {
		size_t word = strcspn(text, " \n");

		if (column && column + 1 + word > WIDTH) {
			fputc('\n', f);
			column = 0;
		}
		if (word) {
			fprintf(f, "%*s%.*s", column ? 1 : (int)indent, column ? " " : "",
				(int)word, text);
			column = (column ? column + 1 : indent) + word;
		}
		text += word;
		if (*text == '\n') {
			fputc('\n', f);
			column = 0;
		}
		text += *text != '\0';
	}
	fputc('\n', f);
}

static const char *type_word(enum param_type type)
{
	static const char *const words[PARAM_TYPE_MAX] = {
		[PARAM_BOOL] = "bool",	       [PARAM_COUNT] = "count",
		[PARAM_DURATION] = "duration", [PARAM_PERCENT] = "percent",
		[PARAM_BYTES] = "bytes",       [PARAM_RATE] = "rate",
		[PARAM_ENUM] = "word",	       [PARAM_SIGNAL] = "signal",
		[PARAM_TEXT] = "text",	       [PARAM_TEXTS] = "texts",
		[PARAM_PEERS] = "peers",       [PARAM_PORTS] = "ports",
	};

	return words[type];
}

static void param_help(FILE *f, const struct param_spec *p)
{
	_cleanup_free_ char *range = param_range_text(p);

	/* The words of a choice speak for themselves. */
	if (p->type == PARAM_ENUM)
		fprintf(f, "  --%s  (%s", p->name, range);
	else
		fprintf(f, "  --%s  (%s%s%s", p->name, type_word(p->type), range && *range ? ": " : "",
			range ? range : "");
	if (p->required)
		fputs("; required", f);
	else if (p->fallback)
		fprintf(f, "; default %s", p->fallback);
	fputs(")\n", f);
	wrap(f, p->help, 6);
}

static char *finish(FILE *f, char **text)
{
	if (fclose(f) != 0) {
		free(*text);
		return NULL;
	}
	return *text;
}

char *catalogue_help(const struct fault_spec *spec)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		return NULL;
	fprintf(f, "%s: %s\n\n", spec->name, spec->summary);
	wrap(f, spec->description, 0);
	fputs("\nParameters\n", f);
	for (size_t i = 0; i < spec->n_params; i++)
		param_help(f, &spec->params[i]);
	fputs("\nMechanism\n", f);
	wrap(f, spec->mechanism, 2);
	fprintf(f, "\nLifetime: %s\n", lifetime_to_string(spec->lifetime));
	wrap(f, lifetime_says(spec->lifetime), 2);
	fputs("\nNeeds\n", f);
	wrap(f, spec->needs, 2);
	fputs("\nWhat a killed agent leaves\n", f);
	wrap(f, spec->leaves, 2);
	fputs("\nExamples\n", f);
	for (size_t i = 0; i < spec->n_examples; i++) {
		wrap(f, spec->examples[i].says, 2);
		fprintf(f, "    pgjolt inject %s\n", spec->examples[i].command);
	}
	return finish(f, &text);
}

/* In a table's cell a "|" ends the cell. */
static void cell(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '|')
			fputc('\\', f);
		fputc(*s, f);
	}
	fputs(" |", f);
}

static void param_row(FILE *f, const struct param_spec *p)
{
	_cleanup_free_ char *range = param_range_text(p);

	fprintf(f, "| `%s` | %s | ", p->name, type_word(p->type));
	cell(f, range ? range : "");
	fprintf(f, " %s | ", p->required ? "required" : p->fallback ? p->fallback : "");
	cell(f, p->help);
	fputc('\n', f);
}

char *catalogue_markdown(const struct fault_spec *spec)
{
	char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		return NULL;
	fprintf(f, "# %s\n\n%s\n\n", spec->name, spec->summary);
	wrap(f, spec->description, 0);
	fputs("\n## Parameters\n\n| name | type | allowed | default | what it is |\n"
	      "|---|---|---|---|---|\n", f);
	for (size_t i = 0; i < spec->n_params; i++)
		param_row(f, &spec->params[i]);
	fputs("\n## Mechanism\n\n", f);
	wrap(f, spec->mechanism, 0);
	fprintf(f, "\nLifetime: `%s`: %s.\n", lifetime_to_string(spec->lifetime),
		lifetime_says(spec->lifetime));
	fputs("\n## What it needs\n\n", f);
	wrap(f, spec->needs, 0);
	fputs("\n## What a killed agent leaves\n\n", f);
	wrap(f, spec->leaves, 0);
	fputs("\n## Examples\n", f);
	for (size_t i = 0; i < spec->n_examples; i++)
		fprintf(f, "\n%s\n\n    pgjolt inject %s\n", spec->examples[i].says,
			spec->examples[i].command);
	fputs("\nThis page is generated from the fault's catalogue entry by `tools/docs`.\n", f);
	return finish(f, &text);
}

static cJSON *param_json(const struct param_spec *p)
{
	_cleanup_free_ char *range = param_range_text(p);
	cJSON *o = json_object(), *choices = NULL;

	json_add_string(o, "name", p->name);
	json_add_string(o, "type", type_word(p->type));
	json_add_bool(o, "required", p->required);
	json_add_string(o, "default", p->fallback);
	json_add_string(o, "allowed", range);
	if (p->choices) {
		choices = json_array();
		for (size_t i = 0; p->choices[i]; i++)
			json_append(choices, cJSON_CreateString(p->choices[i]));
	}
	json_add_item(o, "choices", choices);
	json_add_string(o, "help", p->help);
	return o;
}

cJSON *catalogue_json(const struct fault_spec *spec)
{
	cJSON *o = json_object(), *params = json_array(), *examples = json_array();

	json_add_string(o, "name", spec->name);
	json_add_string(o, "summary", spec->summary);
	json_add_string(o, "description", spec->description);
	for (size_t i = 0; i < spec->n_params; i++)
		json_append(params, param_json(&spec->params[i]));
	json_add_item(o, "params", params);
	json_add_string(o, "mechanism", spec->mechanism);
	json_add_string(o, "lifetime", lifetime_to_string(spec->lifetime));
	json_add_string(o, "needs", spec->needs);
	json_add_string(o, "leaves", spec->leaves);
	for (size_t i = 0; i < spec->n_examples; i++) {
		cJSON *e = json_object();

		json_add_string(e, "command", spec->examples[i].command);
		json_add_string(e, "says", spec->examples[i].says);
		json_append(examples, e);
	}
	json_add_item(o, "examples", examples);
	return o;
}
