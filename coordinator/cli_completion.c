/* The shell's completion, out of the tables that make --help. */
#include "cli.h"

#include <string.h>

/* What "@KIND" of a table stands for: words that a command prints, and files. */
static const struct {
	const char *kind, *words, *files;
} kinds[] = {
	{"@files", NULL, "-f"},
	{"@faults", "$(pgjolt faults --names 2>/dev/null)", NULL},
	{"@drills", "$(pgjolt drills --names 2>/dev/null)", "-f -X '!*.y*ml'"},
	{"@targets", "primary replica replicas any all $(pgjolt targets --names 2>/dev/null)", NULL},
	{"@experiments", "$(pgjolt status --names 2>/dev/null)", NULL},
	{"@runs", "$(command ls pgjolt-runs 2>/dev/null)", "-d"},
};

static void put_reply(FILE *f, const char *words, const char *files)
{
	fputs("COMPREPLY=(", f);
	if (words)
		fprintf(f, "$(compgen -W \"%s\" -- \"$cur\")", words);
	if (files)
		fprintf(f, "%s$(compgen %s -- \"$cur\")", words ? " " : "", files);
	fputs(")", f);
}

static void put_words(FILE *f, const char *complete)
{
	for (size_t i = 0; complete && i < ELEMENTS(kinds); i++)
		if (strcmp(complete, kinds[i].kind) == 0) {
			put_reply(f, kinds[i].words, kinds[i].files);
			return;
		}
	put_reply(f, complete, NULL);
}

/* inject: the fault's parameters are options too, and the fault comes first. */
static void put_parameters(FILE *f)
{
	fputs("\t\tparameters=$(pgjolt faults \"${COMP_WORDS[2]}\" --names 2>/dev/null)\n"
	      "\t\tif [[ $prev == --* && $'\\n'$parameters$'\\n' == *$'\\n'$prev$'\\n'* ]] &&\n"
	      "\t\t\twords=$(pgjolt faults \"${COMP_WORDS[2]}\" --values \"${prev#--}\" 2>/dev/null); then\n"
	      "\t\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); return\n\t\tfi\n",
		f);
}

static void put_verb(FILE *f, const struct cli_verb *v)
{
	bool inject = strcmp(v->name, "inject") == 0;

	fprintf(f, "\t%s)\n\t\tcase $prev in\n", v->name);
	for (size_t i = 0; i < v->n_options; i++) {
		if (v->options[i].type == CLI_FLAG)
			continue;
		fprintf(f, "\t\t--%s) ", v->options[i].name);
		put_words(f, v->options[i].complete);
		fputs("; return ;;\n", f);
	}
	fputs("\t\tesac\n", f);
	if (inject)
		put_parameters(f);
	fputs("\t\tif [[ $cur == -* ]]; then\n\t\t\twords=\"--help", f);
	for (size_t i = 0; i < v->n_options; i++)
		fprintf(f, " --%s", v->options[i].name);
	fprintf(f, "%s\"\n\t\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\t\telse\n\t\t\t",
		inject ? " $parameters" : "");
	put_words(f, v->complete);
	fputs("\n\t\tfi ;;\n", f);
}

void cli_completion_bash(FILE *f)
{
	fputs("# bash completion for pgjolt\n_pgjolt()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words parameters\n"
	      "\tCOMPREPLY=()\n"
	      "\t# --option=value comes as three words.\n"
	      "\tif [[ $cur == = ]]; then\n\t\tcur=\n"
	      "\telif [[ $prev == = ]] && ((COMP_CWORD > 2)); then\n\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n\tfi\n"
	      "\tif ((COMP_CWORD == 1)); then\n\t\tCOMPREPLY=($(compgen -W \"help --help --version",
		f);
	for (size_t i = 0; cli_verbs[i]; i++)
		fprintf(f, " %s", cli_verbs[i]->name);
	fputs("\" -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n", f);
	for (size_t i = 0; cli_verbs[i]; i++)
		put_verb(f, cli_verbs[i]);
	fputs("\tesac\n}\ncomplete -F _pgjolt pgjolt\n", f);
}
