#include "fault/tls_cert_record.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "instance/describe.h"
#include "kernel/file_overlay.h"
#include "kernel/proc.h"

struct record {
	char *source, *path, *pgdata;
	struct proc_id postmaster;
	uint64_t ns;
	bool reload;
};

static const struct json_field record_fields[] = {
	{"source", JSON_STRING, offsetof(struct record, source), .mandatory = true},
	{"path", JSON_STRING, offsetof(struct record, path), .mandatory = true},
	{"pgdata", JSON_STRING, offsetof(struct record, pgdata), .mandatory = true},
	{"pid", JSON_PID, offsetof(struct record, postmaster.pid), .mandatory = true},
	{"start_ticks", JSON_UINT64, offsetof(struct record, postmaster.start_ticks), .mandatory = true},
	{"namespace", JSON_UINT64, offsetof(struct record, ns), .mandatory = true},
	{"reload", JSON_BOOL, offsetof(struct record, reload), .mandatory = true},
	JSON_FIELD_END,
};

static void record_done(struct record *x)
{
	free(x->source);
	free(x->path);
	free(x->pgdata);
}

int tls_cert_source_draw(char ret[static TLS_CERT_SOURCE_MAX], struct err **err)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return err_errno(err, errno, "getrandom");
	snprintf(ret, TLS_CERT_SOURCE_MAX, TLS_CERT_SOURCE "%016" PRIx64, number);
	return 0;
}

cJSON *tls_cert_record(const struct instance_info *i, const char *source, const char *path,
	uint64_t ns, bool reload)
{
	cJSON *record = json_object();

	json_add_string(record, "source", source);
	json_add_string(record, "path", path);
	json_add_string(record, "pgdata", i->pgdata ? i->pgdata : "");
	json_add_int(record, "pid", i->pid);
	json_add_uint(record, "start_ticks", i->start_ticks);
	json_add_uint(record, "namespace", ns);
	json_add_bool(record, "reload", reload);
	return record;
}

static int record_read(const struct undo *u, struct record *ret, struct err **err)
{
	size_t n = strlen(TLS_CERT_SOURCE);
	int r = u->record ? json_dispatch(u->record, record_fields, ret, JSON_REFUSE_UNKNOWN, err) :
			    err_set(err, EBADMSG, "there is no record");

	/* Only what we name so may be unmounted. */
	if (r >= 0 && (strncmp(ret->source, TLS_CERT_SOURCE, n) != 0 ||
		       strspn(ret->source + n, "0123456789abcdef") != 16 || ret->source[n + 16]))
		r = err_set(err, EBADMSG, "source \"%.64s\"", ret->source);
	return r < 0 ? err_wrap(err, EBADMSG, "record of tls-cert") : 0;
}

/* In that namespace, of that data directory. */
static bool is_postmaster_of(const struct record *x, pid_t pid)
{
	_cleanup_free_ char *folder = NULL;
	uint64_t ns;
	size_t n, m = strlen(x->pgdata);

	if (proc_namespace(pid, "mnt", &ns, NULL) < 0 || ns != x->ns ||
	    proc_read_link(pid, "cwd", &folder, NULL) < 0)
		return false;
	n = strlen(folder);
	return n >= m && strcmp(folder + n - m, x->pgdata) == 0 && instance_is_postmaster(pid);
}

/* One that started meanwhile loaded what was there. */
static int reload(const struct record *x, struct err **err)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	r = proc_signal(&x->postmaster, SIGHUP, NULL);
	if (r >= 0)
		return 0;
	if (r != -ESRCH)
		return err_errno(err, r, "send SIGHUP to postmaster %d", (int)x->postmaster.pid);
	r = proc_pids(&pids, &n, err);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct proc_id id;

		if (!is_postmaster_of(x, pids[i]) || proc_identify(pids[i], &id, NULL) < 0)
			continue;
		r = proc_signal(&id, SIGHUP, NULL);
		if (r < 0 && r != -ESRCH)
			return err_errno(err, r, "send SIGHUP to postmaster %d", (int)id.pid);
		r = 0;
	}
	return r;
}

int tls_cert_revert(const struct undo *u, struct err **err)
{
	_cleanup_(record_done) struct record x = {0};
	int r;

	r = record_read(u, &x, err);
	if (r >= 0)
		r = file_overlay_remove(x.source, x.ns, err);
	/* Also where it was gone: an agent may have died between the two, and what the postmaster has loaded
	 * cannot be seen. */
	return r >= 0 && x.reload ? reload(&x, err) : r;
}

int tls_cert_verify(const struct undo *u, struct err **err)
{
	_cleanup_(record_done) struct record x = {0};
	int r;

	r = record_read(u, &x, err);
	return r < 0 ? r : file_overlay_verify(x.source, x.ns, err);
}
