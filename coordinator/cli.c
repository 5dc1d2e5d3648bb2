#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/units.h"

static void *member(void *object, const struct cli_option *o)
{
	return (char *)object + o->offset;
}

static int option_store(const struct cli_option *o, const char *value, void *object,
	struct err **err)
{
	void *m = member(object, o);
	int r = 0;

	switch (o->type) {
	case CLI_FLAG:
		*(bool *)m = true;
		break;
	case CLI_TEXT:
		free(*(char **)m);
		*(char **)m = strdup(value);
		break;
	case CLI_TEXTS:
		strv_push((char ***)m, strdup(value));
		break;
	case CLI_DURATION:
		r = duration_parse(value, m, err);
		break;
	case CLI_COUNT:
		r = count_parse(value, 0, UINT32_MAX, m, err);
		break;
	}
	return r < 0 ? err_wrap(err, r, "--%s", o->name) : 0;
}

static const struct cli_option *option_find(const struct cli_verb *verb, const char *name)
{
	for (size_t i = 0; i < verb->n_options; i++)
		if (strcmp(verb->options[i].name, name) == 0)
			return &verb->options[i];
	return NULL;
}

/* One "--name[=value] [value]"; *i is moved past what was taken. */
static int option_take(const struct cli_verb *verb, int argc, char **argv, int *i,
	const struct cli_extra *extra, void *object, struct err **err)
{
	_cleanup_free_ char *name = strdup(argv[*i] + 2);
	const struct cli_option *o;
	const char *value = NULL;
	char *equals;
	bool flag;
	int r;

	if (!name)
		return err_set(err, -ENOMEM, "out of memory");
	equals = strchr(name, '=');
	if (equals) {
		*equals = 0;
		value = argv[*i] + 2 + (equals - name) + 1;
	}
	o = option_find(verb, name);
	if (!o && !(extra && extra->take))
		return err_set(err, -EINVAL, "unknown option --%s", name);
	flag = o ? o->type == CLI_FLAG : extra->is_flag && extra->is_flag(name, extra->data);
	if (o && flag && value)
		return err_set(err, -EINVAL, "--%s takes no value", name);
	if (!flag && !value) {
		if (*i + 1 >= argc)
			return err_set(err, -EINVAL, "--%s needs a value%s%s", name,
				o && o->argument ? ": " : "", o && o->argument ? o->argument : "");
		value = argv[++*i];
	}
	if (o)
		return option_store(o, value, object, err);
	r = extra->take(name, value, extra->data, err);
	if (r == -ENOENT)
		return err_set(err, -EINVAL, "unknown option --%s", name);
	return r;
}

int cli_parse(const struct cli_verb *verb, int argc, char **argv, const struct cli_extra *extra,
	void *object, char ***ret_arguments, struct err **err)
{
	_cleanup_strv_ char **arguments = NULL;
	bool options_end = false;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		int r;

		if (!options_end && strcmp(a, "--") == 0) {
			options_end = true;
		} else if (!options_end && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
			cli_verb_help(stdout, verb);
			return -ECANCELED;
		} else if (!options_end && strncmp(a, "--", 2) == 0) {
			r = option_take(verb, argc, argv, &i, extra, object, err);
			if (r < 0)
				return r;
		} else if (!options_end && a[0] == '-' && a[1]) {
			return err_set(err, -EINVAL, "unknown option %s (options are long: --help)",
				a);
		} else {
			strv_push(&arguments, strdup(a));
		}
	}
	if (arguments && !verb->arguments)
		return err_set(err, -EINVAL, "unexpected \"%s\"", arguments[0]);
	*ret_arguments = steal_ptr(arguments);
	return 0;
}

static void print_option(FILE *f, const struct cli_option *o)
{
	char left[64];

	snprintf(left, sizeof(left), "--%s%s%s", o->name, o->argument ? " " : "",
		o->argument ? o->argument : "");
	if (strlen(left) > 24)
		fprintf(f, "  %s\n  %-24s  %s\n", left, "", o->help);
	else
		fprintf(f, "  %-24s  %s\n", left, o->help);
}

void cli_verb_help(FILE *f, const struct cli_verb *verb)
{
	fprintf(f, "Usage: pgjolt %s%s%s\n\n%s\n", verb->name, verb->arguments ? " " : "",
		verb->arguments ? verb->arguments : "", verb->summary);
	if (verb->description)
		fprintf(f, "\n%s\n", verb->description);
	fprintf(f, "\nOptions:\n");
	for (size_t i = 0; i < verb->n_options; i++)
		print_option(f, &verb->options[i]);
	fprintf(f, "  %-24s  %s\n", "--help", "print this");
}

static const char exit_codes[] =
	"Exit codes: 0 passed, 1 the drill's expectations failed, 2 usage or a bad drill,\n"
	"3 refused by a guard, 4 aborted and reverted, 5 could not revert (says what is left).\n";

void cli_help(FILE *f)
{
	fprintf(f, "pgjolt jolts PostgreSQL and times how it recovers.\n\n"
		   "Usage: pgjolt VERB [OPTION]... [ARGUMENT]...\n\nVerbs:\n");
	for (size_t i = 0; cli_verbs[i]; i++)
		fprintf(f, "  %-12s %s\n", cli_verbs[i]->name, cli_verbs[i]->summary);
	fprintf(f, "\n`pgjolt VERB --help` tells more of each.\n\n%s", exit_codes);
}

/* roff: a dot or quote at a line's begin and every backslash or hyphen of an option need care. */
static void roff(FILE *f, const char *s)
{
	bool line_begins = true;

	for (; *s; s++) {
		if (line_begins && (*s == '.' || *s == '\''))
			fputs("\\&", f);
		line_begins = *s == '\n';
		if (*s == '\\')
			fputs("\\e", f);
		else if (*s == '-')
			fputs("\\-", f);
		else if (*s == '\n')
			fputs(s[1] == '\n' ? "\n.PP" : "\n", f);
		else
			fputc(*s, f);
	}
}

static void man_verb(FILE *f, const struct cli_verb *v)
{
	fputs(".SS \"pgjolt ", f);
	roff(f, v->name);
	fputs("\"\n.B pgjolt ", f);
	roff(f, v->name);
	if (v->arguments) {
		fputc(' ', f);
		roff(f, v->arguments);
	}
	fputs("\n.PP\n", f);
	roff(f, v->summary);
	fputs(".\n", f);
	if (v->description) {
		fputs(".PP\n", f);
		roff(f, v->description);
		fputc('\n', f);
	}
	for (size_t i = 0; i < v->n_options; i++) {
		fputs(".TP\n\\fB\\-\\-", f);
		roff(f, v->options[i].name);
		fputs("\\fR", f);
		if (v->options[i].argument) {
			fputs(" \\fI", f);
			roff(f, v->options[i].argument);
			fputs("\\fR", f);
		}
		fputc('\n', f);
		roff(f, v->options[i].help);
		fputc('\n', f);
	}
}

void cli_man(FILE *f)
{
	fprintf(f, ".TH PGJOLT 1 \"\" \"pgjolt %s\" \"User Commands\"\n"
		   ".SH NAME\npgjolt \\- fault drills for PostgreSQL, with the recovery timed\n"
		   ".SH SYNOPSIS\n.B pgjolt\n.I VERB\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n"
		   ".SH DESCRIPTION\n"
		   "pgjolt arms and fires the agents of a PostgreSQL cluster, watches the cluster as its "
		   "clients do,\nand says how long until the fault was noticed, until writes worked "
		   "again, until full redundancy,\nand whether an acknowledged commit was lost or two "
		   "primaries took writes.\n"
		   "Database connections follow libpq's own conventions (service files, passfile, "
		   "environment).\n.SH VERBS\n",
		PGJOLT_VERSION);
	for (size_t i = 0; cli_verbs[i]; i++)
		man_verb(f, cli_verbs[i]);
	fputs(".SH EXIT STATUS\n"
	      ".TP\n0\nthe drill passed\n.TP\n1\nthe drill's expectations failed\n"
	      ".TP\n2\nusage, or a bad drill (said with file:line:column)\n"
	      ".TP\n3\nrefused by a guard\n.TP\n4\naborted and reverted\n"
	      ".TP\n5\ncould not revert; says what is left and how to clear it\n"
	      ".SH FILES\n.TP\n/run/pgjolt/agent.sock\nthe local agent\n"
	      ".TP\npgjolt\\-runs/\nthe folders of the runs\n"
	      ".SH SEE ALSO\n.BR pgjolt\\-agent (8)\n",
		f);
}

int cli_exit_code(const struct err *err)
{
	switch (err ? err->code : 0) {
	case -EINVAL:
	case -ENOENT:
		return EXIT_USAGE;
	case -EPERM:
	case -EACCES:
	case -EBUSY:
	case -EEXIST:
	case -EOPNOTSUPP:
	case -ESTALE:
	case -ESRCH:		/* no agent, no PostgreSQL */
	case -ECHILD:		/* an agent of ours that did not start */
	case -ECONNREFUSED:
	case -EHOSTUNREACH:	/* a name that is not resolved */
		return EXIT_REFUSED;
	default:
		return EXIT_ABORTED;
	}
}

int cli_fail(const struct err *err)
{
	fprintf(stderr, "pgjolt: %s\n", err_text(err));
	return cli_exit_code(err);
}

int cli_usage(const struct cli_verb *verb, const struct err *err)
{
	fprintf(stderr, "pgjolt %s: %s\nTry `pgjolt %s --help`.\n", verb->name, err_text(err),
		verb->name);
	return EXIT_USAGE;
}
