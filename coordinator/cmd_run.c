#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "drill/drill.h"
#include "report/report.h"
#include "run/run.h"
#include "session.h"
#include "verbs.h"

struct options {
	struct session_options session;
	char **sets;
	char *out, *cluster, *manager, *conninfo, *user_secret;
	uint64_t seed;
	bool dry_run, keep;
};

/* The exit code. A folder that could not be written is told, but hides no worse verdict. */
static int print_end(const struct options *o, const struct run_record *record, const char *folder,
	const struct verdict *v)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *report = report_json(record, v);
	_cleanup_free_ char *text = NULL;
	int r = run_folder_write(folder, record, report, &err);
	int code = verdict_exit_code(v->verdict);

	if (r < 0) {
		cli_fail(err);
		code = code < EXIT_ABORTED ? EXIT_ABORTED : code;
	}
	if (o->session.json) {
		text = json_print_pretty(report);
		puts(text);
		return code;
	}
	putchar('\n');
	report_write_text(stdout, report, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"), NULL);
	if (r >= 0)
		printf("\nReport: %s/report.html\n", folder);
	return code;
}

/* A run that never began is a document too: who reads JSON need not read stderr. */
static void print_refusal(const struct options *o, const struct drill *d, const struct err *err,
	int code)
{
	_cleanup_(run_record_freep) struct run_record *record = NULL;
	_cleanup_(verdict_freep) struct verdict *v = NULL;
	_cleanup_json_ cJSON *report = NULL;
	_cleanup_free_ char *text = NULL;

	if (!o->session.json || o->dry_run || code == EXIT_USAGE)
		return;
	record = run_record_new();
	record->run = id_new("run");
	record->drill = strdup(d->name);
	record->drill_summary = strdup(d->summary);
	record->cluster = strdup(o->cluster ? o->cluster : "");
	record->started_ns = record->ended_ns = now_ns();
	record->started_realtime_ns = realtime_ns();
	record->ended_as = code == EXIT_REFUSED ? VERDICT_REFUSED : VERDICT_ABORTED;
	record->ended_why = strdup(err_text(err));
	v = verdict_compute(record);
	report = report_json(record, v);
	text = json_print_pretty(report);
	puts(text);
}

static int run_it(const struct options *o, const struct drill *d, struct session *s,
	struct err **err)
{
	const struct run_options options = {
		.out = o->out,
		.conninfo = o->conninfo,
		.user_secret = o->user_secret,
		.cluster = o->cluster,
		.manager = o->manager,
		.seed = o->seed,
		.json = o->session.json,
		.keep = o->keep,
	};
	_cleanup_(run_record_freep) struct run_record *record = NULL;
	_cleanup_(verdict_freep) struct verdict *v = NULL;
	_cleanup_free_ char *folder = NULL;
	int r;

	if (o->dry_run)
		return run_dry(s, d, &options, o->session.json, stdout, err);
	r = run_execute(s, d, &options, &record, &folder, err);
	if (r < 0)
		return r;
	v = verdict_compute(record);
	return print_end(o, record, folder, v);
}

static int run_drill(const struct options *o, const char *name, int *ret_code, struct err **err)
{
	_cleanup_(drill_freep) struct drill *d = NULL;
	struct session *s = NULL;
	int r = drill_load(name, o->sets, &d, err), status;

	if (r < 0)
		return r;
	r = session_open(&o->session, o->dry_run ? SESSION_LOOK : SESSION_ACT, &s, err);
	if (r < 0) {
		print_refusal(o, d, *err, cli_exit_code(*err));
		return r;
	}
	r = run_it(o, d, s, err);
	if (r < 0)
		print_refusal(o, d, *err, cli_exit_code(*err));
	status = session_close(s);
	/* Our agent says at its end whether something is left on the node. */
	*ret_code = status == EXIT_STUCK ? EXIT_STUCK : r;
	return r < 0 ? r : 0;
}

/* An argument is for everybody to read, in the list of processes. */
static int refuse_password(const char *conninfo, struct err **err)
{
	PQconninfoOption *options = conninfo ? PQconninfoParse(conninfo, NULL) : NULL;
	bool found = false;

	for (PQconninfoOption *o = options; o && o->keyword; o++)
		found = found || ((strcmp(o->keyword, "password") == 0 ||
					  strcmp(o->keyword, "sslpassword") == 0) &&
					 o->val);
	PQconninfoFree(options);
	return !found ? 0 :
			err_set(err, -EINVAL,
				"--conninfo holds a password, which every user of this host could read: use "
				"a passfile (PGPASSFILE) or a service");
}

static int run(const struct cli_verb *verb, int argc, char **argv)
{
	struct options o = {0};
	_cleanup_strv_ char **arguments = NULL;
	_cleanup_err_ struct err *err = NULL;
	int r, code = EXIT_PASSED, failed;

	if (getrandom(&o.seed, sizeof(o.seed), 0) < 0)
		o.seed = 1;
	o.seed >>= 33;
	r = cli_parse(verb, argc, argv, NULL, &o, &arguments, &err);
	if (r >= 0 && strv_length(arguments) != 1)
		r = err_set(&err, -EINVAL, "give one drill: a built-in one's name or a file");
	if (r >= 0)
		r = refuse_password(o.conninfo, &err);
	if (r < 0) {
		code = r == -ECANCELED ? EXIT_PASSED : cli_usage(verb, err);
	} else if (run_drill(&o, arguments[0], &code, &err) < 0) {
		failed = cli_fail(err);
		code = code == EXIT_STUCK ? code : failed;
	}
	session_options_done(&o.session);
	strv_free(o.sets);
	free(o.out);
	free(o.cluster);
	free(o.manager);
	free(o.conninfo);
	free(o.user_secret);
	return code;
}

static const struct cli_option options[] = {
	{"set", CLI_TEXTS, offsetof(struct options, sets), "NAME=VALUE",
		"set a variable of the drill; may be repeated", NULL},
	{"dry-run", CLI_FLAG, offsetof(struct options, dry_run), NULL,
		"name the exact instances, peers and effects; touch nothing", NULL},
	{"cluster", CLI_TEXT, offsetof(struct options, cluster), "NAME",
		"which cluster, where there are several; in Kubernetes NAMESPACE/NAME", NULL},
	{"manager", CLI_TEXT, offsetof(struct options, manager), "NAME",
		MANAGER_NAMES_HELP, MANAGER_NAMES},
	{"conninfo", CLI_TEXT, offsetof(struct options, conninfo), "STRING",
		"libpq settings for the probes (a service, a database, ...); no password belongs here",
		NULL},
	{"user-secret", CLI_TEXT, offsetof(struct options, user_secret), "NAMESPACE/NAME",
		"in Kubernetes: log in by this Secret's username and password", NULL},
	{"out", CLI_TEXT, offsetof(struct options, out), "DIR",
		"the run's folder (default pgjolt-runs/RUN)", "@files"},
	{"seed", CLI_COUNT, offsetof(struct options, seed), "N",
		"of the picks among instances; told in the report", NULL},
	{"keep", CLI_FLAG, offsetof(struct options, keep), NULL,
		"leave the probe's schema pgjolt_probe in the database", NULL},
	SESSION_OPTIONS(struct options),
};

const struct cli_verb verb_run = {
	.name = "run",
	.arguments = "DRILL|FILE [--set NAME=VALUE]... [--dry-run]",
	.summary = "run a drill, print the timeline and the verdict",
	.description =
		"Database connections follow libpq's conventions: PGSERVICE, PGHOST, PGPASSFILE and so on.\n"
		"If no agent answers on this host, one is started for the run (as root).",
	.complete = "@drills",
	.options = options,
	.n_options = ELEMENTS(options),
	.run = run,
};
