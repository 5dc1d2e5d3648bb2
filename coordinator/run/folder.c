/* A run's folder: plan.yaml, events.jsonl, ledger, report.json, report.html. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/durable.h"
#include "report/report.h"
#include "run/run.h"

static int write_text(const char *folder, const char *name, const char *text, struct err **err)
{
	_cleanup_close_ int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, errno, "%s", folder);
	return durable_write(fd, name, text, strlen(text), 0644, err);
}

int run_folder_open(struct run *r, struct err **err)
{
	_cleanup_free_ char *plan = drill_to_yaml(r->drill);
	_cleanup_free_ char *events = NULL;
	int k;

	if (r->options->out)
		r->folder = strdup(r->options->out);
	else if (asprintf(&r->folder, "pgjolt-runs/%s", r->record->run) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	k = folder_create(r->folder, 0755, err);
	if (k < 0)
		return err_wrap(err, k, "the run's folder");
	if (asprintf(&events, "%s/events.jsonl", r->folder) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	/* A folder that has a run in it already is not overwritten. */
	r->events_file = fopen(events, "wxe");
	if (!r->events_file)
		return err_errno(err, errno == EEXIST ? EEXIST : errno,
			"%s: give --out a folder of its own", events);
	return write_text(r->folder, "plan.yaml", plan, err);
}

static int write_html(const char *folder, const cJSON *report, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t length = 0;
	FILE *f = open_memstream(&text, &length);
	int k;

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	k = report_write_html(f, report, err);
	if (fclose(f) && k >= 0)
		k = err_set(err, -ENOMEM, "out of memory");
	return k < 0 ? k : write_text(folder, "report.html", text, err);
}

int run_folder_write(const char *folder, const struct run_record *record, const cJSON *report,
	struct err **err)
{
	_cleanup_free_ char *text = json_print_pretty(report);
	int k = write_text(folder, "report.json", text, err);

	(void)record;
	return k < 0 ? k : write_html(folder, report, err);
}
