#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "core/clock.h"
#include "core/json.h"
#include "table.h"

struct options {
	bool flag;
	char *text, **texts;
	uint64_t duration_ns, count;
};

static const struct cli_option options[] = {
	{"flag", CLI_FLAG, offsetof(struct options, flag), NULL, "a flag", NULL},
	{"text", CLI_TEXT, offsetof(struct options, text), "TEXT", "a text", "@files"},
	{"texts", CLI_TEXTS, offsetof(struct options, texts), "TEXT", "texts", NULL},
	{"for", CLI_DURATION, offsetof(struct options, duration_ns), "DURATION", "how long", NULL},
	{"count", CLI_COUNT, offsetof(struct options, count), "N", "how often", "1 2 3"},
};

static const struct cli_verb verb = {.name = "try", .arguments = "WHAT", .summary = "try it", .complete = "a b",
	.description = ".starts with a dot\n'and a quote", .options = options, .n_options = ELEMENTS(options)};
const struct cli_verb *const cli_verbs[] = {&verb, NULL};

static struct options o;
static char **arguments;

static void tear_down(void)
{
	free(o.text);
	strv_free(o.texts);
	strv_free(arguments);
	o = (struct options){0};
	arguments = NULL;
}

TestSuite(cli, .fini = tear_down);

/* line: words with blanks between. */
static int parse(const char *line, const struct cli_extra *extra, struct err **err)
{
	_cleanup_free_ char *copy = strdup(line);
	char *argv[20] = {"try"}, *save = NULL;
	int argc = 1;

	for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save))
		argv[argc++] = p;
	return cli_parse(&verb, argc, argv, extra, &o, &arguments, err);
}

Test(cli, every_kind)
{
	cr_assert_eq(parse("one --flag --text a --text=b=c --texts x --texts=y --for 1.5s --count 7 two -", NULL, NULL), 0);
	cr_assert(o.flag);
	cr_assert_str_eq(o.text, "b=c", "the last one counts");
	cr_assert_eq(strv_length(o.texts), 2);
	cr_assert_eq(o.duration_ns, 1500 * NS_PER_MS);
	cr_assert_eq(o.count, 7);
	cr_assert_eq(strv_length(arguments), 3);
	cr_assert_str_eq(arguments[2], "-");
}

Test(cli, the_end_of_options)
{
	cr_assert_eq(parse("--text= -- --flag --help -x", NULL, NULL), 0);
	cr_assert_str_eq(o.text, "");
	cr_assert(!o.flag);
	cr_assert_eq(strv_length(arguments), 3);
}

static void refused(const char *line, const char *words)
{
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(parse(line, NULL, &err), -EINVAL, "%s", line);
	cr_assert(strstr(err_text(err), words), "%s: %s", line, err_text(err));
	cr_assert_null(arguments);
}

Test(cli, refused)
{
	refused("--none", "unknown option --none");
	refused("--fla", "unknown option --fla");
	refused("--=x", "unknown option --");
	refused("-f", "unknown option -f (options are long: --help)");
	refused("--flag=1", "--flag takes no value");
	refused("a --text", "--text needs a value: TEXT");
	refused("--for 5", "--for: ");
	refused("--for=", "--for: ");
	refused("--count -1", "--count: ");
	refused("--count 4294967296", "--count: ");
	refused("--count 1.5", "--count: ");
}

static char taken[100];

static int take(const char *name, const char *value, void *data, struct err **err)
{
	(void)data;
	if (strcmp(name, "bad") == 0)
		return err_set(err, -EINVAL, "bad is bad");
	if (name[0] != 'p')
		return -ENOENT;
	strcat(strcat(strcat(strcat(taken, name), "="), value ? value : "(none)"), " ");
	return 0;
}

static bool is_flag(const char *name, void *data)
{
	(void)data;
	return strcmp(name, "pflag") == 0;
}

Test(cli, options_of_others)
{
	const struct cli_extra extra = {take, is_flag, NULL};
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(parse("--pa 1 --pflag --pb=2 --pflag=false --flag", &extra, &err), 0, "%s", err_text(err));
	cr_assert_str_eq(taken, "pa=1 pflag=(none) pb=2 pflag=false ");
	cr_assert(o.flag);
	cr_assert_eq(parse("--x 1", &extra, &err), -EINVAL);
	cr_assert_str_eq(err_text(err), "unknown option --x");
	cr_assert_eq(parse("--bad 1", &extra, &err), -EINVAL);
	cr_assert_str_eq(err_text(err), "bad is bad");
}

static char *printed(void (*print)(FILE *f))
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	print(f);
	fclose(f);
	return text;
}

static void print_verb(FILE *f)
{
	cli_verb_help(f, &verb);
}

Test(cli, pages_name_everything)
{
	_cleanup_free_ char *help = printed(cli_help), *page = printed(print_verb), *man = printed(cli_man),
			    *completion = printed(cli_completion_bash);

	cr_assert(strstr(help, "  try          try it\n"), "%s", help);
	cr_assert(strstr(page, "Usage: pgjolt try WHAT\n"), "%s", page);
	for (size_t i = 0; i < ELEMENTS(options); i++) {
		char word[32];

		snprintf(word, sizeof(word), "--%s", options[i].name);
		cr_assert(strstr(page, word));
		cr_assert(strstr(completion, word));
		snprintf(word, sizeof(word), "\\-\\-%s", options[i].name);
		cr_assert(strstr(man, word));
	}
	/* No line of text may be taken for a request. */
	cr_assert(!strstr(man, "\n.starts"), "%s", man);
	cr_assert(!strstr(man, "\n'and"), "%s", man);
}

Test(cli, exit_codes)
{
	static const struct {
		int code;
		enum exit_code exit;
	} all[] = {{-EINVAL, EXIT_USAGE}, {-ENOENT, EXIT_USAGE}, {-EPERM, EXIT_REFUSED}, {-EACCES, EXIT_REFUSED},
		{-EBUSY, EXIT_REFUSED}, {-EEXIST, EXIT_REFUSED}, {-EOPNOTSUPP, EXIT_REFUSED}, {-ESTALE, EXIT_REFUSED},
		{-ESRCH, EXIT_REFUSED}, {-ECONNREFUSED, EXIT_REFUSED}, {-ECHILD, EXIT_REFUSED},
		{-EIO, EXIT_ABORTED}, {-ETIMEDOUT, EXIT_ABORTED}, {-ENOSPC, EXIT_ABORTED}};

	for (size_t i = 0; i < ELEMENTS(all); i++) {
		_cleanup_err_ struct err *err = NULL;

		err_set(&err, all[i].code, "of a test");
		cr_assert_eq(cli_fail(err), (int)all[i].exit, "%d", all[i].code);
	}
}

static struct table *table;

static void print_table(FILE *f)
{
	table_print(table, f);
}

Test(cli, table)
{
	_cleanup_free_ char *text = NULL;

	table = table_new((const char *[]){"NAME", "N", "LAST", NULL});
	table_add(table, (const char *[]){"a", "1234", "x"});
	table_add(table, (const char *[]){"longer", NULL, ""});
	text = printed(print_table);
	cr_assert_str_eq(text, "NAME    N     LAST\n"
			       "a       1234  x\n"
			       "longer  -     -\n");
	table_free(table);
	table_free(NULL);
}
