#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/durable.h"
#include "core/json_text.h"
#include "report/read.h"
#include "table.h"
#include "verbs.h"

#define RUNS_DEFAULT "pgjolt-runs"

struct options {
	char *format, *runs;
};

enum format { FORMAT_TEXT, FORMAT_HTML, FORMAT_JSON, FORMAT_JUNIT, FORMAT_MD, FORMAT_MAX };

static const char *const format_words[FORMAT_MAX] = {"text", "html", "json", "junit", "md"};

static int read_report(int dir_fd, const char *name, cJSON **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t length;
	int r = file_read(dir_fd, name, JSON_TEXT_MAX, &text, &length, err);

	if (r >= 0)
		r = json_parse(text, length, ret, err);
	if (r >= 0 && !cJSON_IsObject(*ret)) {
		cJSON_Delete(steal_ptr(*ret));
		r = err_set(err, -EINVAL, "expected an object");
	}
	return r;
}

/* Was the run ended before it could write its report? */
static bool has_events(const char *folder, const char *run)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s/events.jsonl", folder, run) < 0)
		abort();
	return access(path, F_OK) == 0;
}

/* A folder's path, or a run's id below runs. */
static int open_run(const char *runs, const char *run, cJSON **ret, struct err **err)
{
	_cleanup_free_ char *below = NULL, *beside = NULL;
	int r;

	if (asprintf(&below, "%s/%s/report.json", runs, run) < 0 ||
		asprintf(&beside, "%s/report.json", run) < 0)
		abort();
	if (!strchr(run, '/') && access(below, F_OK) == 0) {
		r = read_report(AT_FDCWD, below, ret, err);
		return r < 0 ? err_wrap(err, r, "%s", below) : 0;
	}
	if (access(beside, F_OK) < 0)
		return err_set(err, -ENOENT, "no report of run %s: neither %s nor %s is there%s", run,
			below, beside,
			has_events(runs, run) || has_events(run, ".") ?
				"; it was ended before it could write one, events.jsonl in its folder says how far it came" :
				"");
	r = read_report(AT_FDCWD, beside, ret, err);
	return r < 0 ? err_wrap(err, r, "%s", beside) : 0;
}

static int print_report(const cJSON *report, enum format format, struct err **err)
{
	_cleanup_free_ char *text = NULL;

	switch (format) {
	case FORMAT_HTML:
		return report_write_html(stdout, report, err);
	case FORMAT_JUNIT:
		return report_write_junit(stdout, report, err);
	case FORMAT_MD:
		return report_write_markdown(stdout, report, err);
	case FORMAT_JSON:
		text = json_print_pretty(report);
		puts(text);
		return report_flush(stdout, err);
	default:
		return report_write_text(stdout, report,
			isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), err);
	}
}

static int one(const char *runs, const char *run, enum format format, struct err **err)
{
	_cleanup_json_ cJSON *report = NULL;
	int r = open_run(runs, run, &report, err);

	return r < 0 ? r : print_report(report, format, err);
}

/* ---- the list ---- */

static cJSON *summary_of(const char *folder, const cJSON *report)
{
	static const char *const words[] = {"started", "drill", "cluster", "verdict"};
	cJSON *o = json_object();
	double ttr = report_number(report, "write_ttr_ms");

	json_add_string(o, "run", folder);
	for (size_t i = 0; i < ELEMENTS(words); i++)
		json_add_string(o, words[i], report_text(report, words[i]));
	json_add_double(o, "write_ttr_ms", ttr);
	json_add_double(o, "lost", report_number(json_get(report, "ledger"), "lost"));
	return o;
}

static int by_started(const void *a, const void *b)
{
	const cJSON *x = *(const cJSON *const *)a, *y = *(const cJSON *const *)b;
	int order = strcmp(report_text(x, "started"), report_text(y, "started"));

	return order ? order : strcmp(report_text(x, "run"), report_text(y, "run"));
}

static int is_folder(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* What a run has left, but cannot be read, is told; a folder without a report is none of ours. */
static bool read_listed(const char *runs, const char *folder, cJSON **ret)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r;

	if (asprintf(&path, "%s/%s/report.json", runs, folder) < 0)
		abort();
	r = read_report(AT_FDCWD, path, ret, &err);
	if (r < 0 && access(path, F_OK) == 0)
		fprintf(stderr, "pgjolt: warning: left out: %s: %s\n", path, err_text(err));
	return r >= 0;
}

/* Newest last, as a terminal shows it best. */
static int gather(const char *runs, cJSON ***ret, size_t *ret_count, struct err **err)
{
	struct dirent **names = NULL;
	cJSON **list;
	size_t count = 0;
	int n = scandir(runs, &names, is_folder, NULL);

	if (n < 0 && errno != ENOENT)
		return err_errno(err, errno, "%s", runs);
	list = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof(*list));
	if (!list)
		abort();
	for (int i = 0; i < n; i++) {
		_cleanup_json_ cJSON *report = NULL;

		if (read_listed(runs, names[i]->d_name, &report))
			list[count++] = summary_of(names[i]->d_name, report);
		free(names[i]);
	}
	free(names);
	qsort(list, count, sizeof(*list), by_started);
	*ret = list;
	*ret_count = count;
	return 0;
}

/* From a file: nothing in it may steer the terminal. */
static const char *plain(cJSON *o, const char *name)
{
	cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);
	char *c, *end;

	if (!cJSON_IsString(item) || !*item->valuestring)
		return NULL;
	c = item->valuestring;
	end = c + strlen(c);
	for (size_t n; *c; c += n) {
		n = utf8_sequence(c, end);
		if (n == 0 || (unsigned char)*c < ' ' || *c == 0x7f) {
			n = 1;
			*c = '?';
		} else if (n == 2 && (unsigned char)c[0] == 0xc2 && (unsigned char)c[1] < 0xa0) {
			c[0] = c[1] = '?';	/* a control character too: C1 */
		}
	}
	return item->valuestring;
}

static void print_list(cJSON *const *list, size_t n)
{
	static const char *const heads[] = {"RUN", "STARTED", "DRILL", "CLUSTER", "VERDICT",
		"WRITES BACK", "LOST", NULL};
	struct table *t = table_new(heads);

	for (size_t i = 0; i < n; i++) {
		char ttr[UNITS_TEXT_MAX], lost[UNITS_TEXT_MAX];
		const char *cells[] = {plain(list[i], "run"), plain(list[i], "started"),
			plain(list[i], "drill"), plain(list[i], "cluster"),
			plain(list[i], "verdict"), ttr, lost};

		report_duration(report_number(list[i], "write_ttr_ms"), ttr);
		report_count(report_number(list[i], "lost"), lost);
		for (size_t k = 5; k < ELEMENTS(cells); k++)
			cells[k] = *cells[k] ? cells[k] : NULL;
		table_add(t, cells);
	}
	table_print(t, stdout);
	table_free(t);
}

static int list_runs(const char *runs, enum format format, struct err **err)
{
	_cleanup_json_ cJSON *all = json_array();
	_cleanup_free_ char *text = NULL;
	cJSON **list = NULL;
	size_t n = 0;
	int r = gather(runs, &list, &n, err);

	if (r < 0)
		return r;
	if (format == FORMAT_TEXT && n)
		print_list(list, n);
	else if (format == FORMAT_TEXT)
		printf("No run has left a report in %s.\n", runs);
	for (size_t i = 0; i < n; i++)
		json_append(all, list[i]);
	free(list);
	if (format == FORMAT_JSON) {
		text = json_print_pretty(all);
		puts(text);
	}
	return report_flush(stdout, err);
}

/* ---- the verb ---- */

static int report(const struct options *o, char *const *arguments, struct err **err)
{
	const char *runs = o->runs ? o->runs : RUNS_DEFAULT;
	int format = o->format ? string_table_from(format_words, FORMAT_MAX, o->format) :
				 FORMAT_TEXT;

	if (format < 0)
		return err_set(err, -EINVAL, "--format %s: text, html, json, junit or md", o->format);
	if (strv_length((char **)arguments) > 1)
		return err_set(err, -EINVAL, "one run at a time, given were %zu",
			strv_length((char **)arguments));
	if (arguments && arguments[0])
		return one(runs, arguments[0], (enum format)format, err);
	if (format != FORMAT_TEXT && format != FORMAT_JSON)
		return err_set(err, -EINVAL, "--format %s is of one run: give its id or folder; the "
			"list comes as text or json", o->format);
	return list_runs(runs, (enum format)format, err);
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err), code = EXIT_PASSED;

	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else {
		r = report(&o, arguments, &err);
		if (r < 0)
			code = cli_fail(err);
	}
	free(o.format);
	free(o.runs);
	return code;
}

static const struct cli_option options[] = {
	{"format", CLI_TEXT, offsetof(struct options, format), "FORMAT",
		"text (default), html, json, junit or md (Markdown)", "text html json junit md"},
	{"runs", CLI_TEXT, offsetof(struct options, runs), "DIR",
		"where the runs' folders are (default " RUNS_DEFAULT ")", "@files"},
};

const struct cli_verb verb_report = {
	.name = "report",
	.arguments = "[RUN|FOLDER]",
	.summary = "print a run's report; without a run, list the runs",
	.description = "The exit code says whether it could be printed, whatever the run's verdict "
		       "was.",
	.complete = "@runs",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
