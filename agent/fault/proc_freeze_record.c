#include "fault/probe_process.h"
#include "fault/proc_freeze_record.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "kernel/cgroup.h"
#include "kernel/proc.h"

#define PROCESSES_MAX 8192
#define MARK_NAME     "trusted.pgjolt"
#define MARK_MAX      256
/* The kernel detaches the tracees of a dead agent on its own time; normally that is long past. */
#define VERIFY_TRIES 25
#define VERIFY_WAIT_US 4000
#define PROBE_STOP_NS (500 * NS_PER_MS)

struct record {
	char *mechanism, *file, *mark;
	cJSON *processes;
};

static void record_done(struct record *r)
{
	free(r->mechanism);
	free(r->file);
	free(r->mark);
	cJSON_Delete(r->processes);
}

static const struct json_field record_fields[] = {
	{"mechanism", JSON_STRING, offsetof(struct record, mechanism), true, NULL, NULL},
	{"file", JSON_STRING, offsetof(struct record, file), false, NULL, NULL},
	{"mark", JSON_STRING, offsetof(struct record, mark), false, NULL, NULL},
	{"processes", JSON_ANY, offsetof(struct record, processes), false, NULL, NULL},
	JSON_FIELD_END,
};

static const struct json_field process_fields[] = {
	{"pid", JSON_PID, offsetof(struct proc_id, pid), true, NULL, NULL},
	{"start_ticks", JSON_UINT64, offsetof(struct proc_id, start_ticks), true, NULL, NULL},
	JSON_FIELD_END,
};

cJSON *freeze_record_ptrace(const struct ptrace_held *held, size_t count)
{
	cJSON *record = json_object(), *processes = json_array();

	for (size_t i = 0; i < count && i < PROCESSES_MAX; i++) {
		cJSON *item = json_object();

		json_add_int(item, "pid", held[i].id.pid);
		json_add_uint(item, "start_ticks", held[i].id.start_ticks);
		json_append(processes, item);
	}
	json_add_string(record, "mechanism", "ptrace");
	json_add_item(record, "processes", processes);
	return record;
}

cJSON *freeze_record_cgroup(const char *file, const char *mark)
{
	cJSON *record = json_object();

	json_add_string(record, "mechanism", "cgroup");
	json_add_string(record, "file", file);
	if (mark)
		json_add_string(record, "mark", mark);
	return record;
}

bool freeze_mark_possible(const char *file)
{
	return getxattr(file, MARK_NAME, NULL, 0) >= 0 || errno == ENODATA;
}

int freeze_mark_set(const char *file, const char *mark, struct err **err)
{
	return setxattr(file, MARK_NAME, mark, strlen(mark), 0) < 0 ?
		err_errno(err, errno, "mark %s as ours", file) : 0;
}

/* Without a mark in the record it is taken for ours. */
static bool is_ours(const struct record *r)
{
	char mark[MARK_MAX];
	ssize_t n;

	if (!r->mark)
		return true;
	n = getxattr(r->file, MARK_NAME, mark, sizeof(mark));
	return n >= 0 && (size_t)n == strlen(r->mark) && memcmp(mark, r->mark, (size_t)n) == 0;
}

static int record_read(const struct undo *u, struct record *ret, struct err **err)
{
	int r = u->record ? json_dispatch(u->record, record_fields, ret, JSON_REFUSE_UNKNOWN, err) :
			    err_set(err, EBADMSG, "there is no record");

	if (r < 0)
		return err_wrap(err, EBADMSG, "record of proc-freeze");
	if (strcmp(ret->mechanism, "ptrace") == 0 && cJSON_IsArray(ret->processes) && !ret->file)
		return 0;
	if (strcmp(ret->mechanism, "cgroup") != 0 || !ret->file || ret->processes)
		return err_set(err, EBADMSG, "record of proc-freeze: mechanism \"%s\"", ret->mechanism);
	return 0;
}

int freeze_record_revert(const struct undo *u, struct err **err)
{
	_cleanup_(record_done) struct record record = {0};
	int r;

	r = record_read(u, &record, err);
	if (r < 0 || !record.file)
		return r;
	if (!is_ours(&record))
		return 0;
	r = cgroup_freeze(record.file, false, err);
	if (r >= 0 && record.mark)
		removexattr(record.file, MARK_NAME);
	return r == -EINVAL ? err_wrap(err, EBADMSG, "record of proc-freeze") : r;
}

/* Is that tracer a thread of ours, or gone? Somebody else's is none of our business. */
static bool is_our_tracer(pid_t tracer)
{
	_cleanup_free_ char *tgid = NULL;

	if (proc_status_field(tracer, "Tgid", &tgid, NULL) < 0)
		return true;
	return (pid_t)strtol(tgid, NULL, 10) == getpid();
}

/* A thread of the process that still stands in a ptrace stop of ours, else 0. */
static pid_t stopped_thread(const struct proc_id *id)
{
	_cleanup_free_ pid_t *tids = NULL;
	struct proc_stat s;
	pid_t tracer;
	size_t n;

	if (proc_read_stat(id->pid, &s, NULL) < 0 || s.id.start_ticks != id->start_ticks ||
	    proc_threads(id->pid, &tids, &n, NULL) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (proc_read_stat(tids[i], &s, NULL) == 0 && s.state == 't' &&
		    proc_tracer(tids[i], &tracer, NULL) == 0 && is_our_tracer(tracer))
			return tids[i];
	return 0;
}

static int verify_processes(const cJSON *processes, struct err **err)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, processes) {
		struct proc_id id = {0};
		pid_t tid = 0;
		int r;

		r = json_dispatch(item, process_fields, &id, JSON_REFUSE_UNKNOWN, err);
		if (r < 0)
			return err_wrap(err, EBADMSG, "record of proc-freeze");
		for (int i = 0; i < VERIFY_TRIES && (tid = stopped_thread(&id)); i++)
			usleep(VERIFY_WAIT_US);
		if (tid)
			return err_set(err, EBUSY, "process %d, thread %d is still stopped by ptrace",
				id.pid, tid);
	}
	return 0;
}

int freeze_record_verify(const struct undo *u, struct err **err)
{
	_cleanup_(record_done) struct record record = {0};
	bool frozen;
	int r;

	r = record_read(u, &record, err);
	if (r < 0)
		return r;
	if (!record.file)
		return verify_processes(record.processes, err);
	r = cgroup_is_frozen(record.file, &frozen, err);
	if (r < 0)
		return r;
	return frozen && is_ours(&record) ? err_set(err, EBUSY, "%s is still frozen", record.file) : 0;
}

static int try_ptrace(pid_t pid, struct err **err)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *hold = NULL;
	struct proc_id id;
	size_t n_new, running;
	int r;

	r = proc_identify(pid, &id, err);
	if (r >= 0)
		r = ptrace_hold_new(&hold, err);
	if (r >= 0)
		r = ptrace_hold_seize(hold, &id, 1, &n_new, err);
	if (r >= 0)
		r = ptrace_hold_stop(hold, PROBE_STOP_NS, &running);
	if (r >= 0 && (n_new != 1 || running != 0))
		r = err_set(err, EOPNOTSUPP, "a process that was seized did not stop");
	return r;
}

int freeze_probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	pid_t pid;
	int r;

	(void)node;
	pid = probe_process_start();
	if (pid < 0)
		return err_errno(err, errno, "start a process to try ptrace on");
	r = try_ptrace(pid, &why);
	probe_process_end(pid);
	if (r >= 0 && !proc_has_capability(CAP_SYS_PTRACE))
		r = err_set(&why, EPERM, "CAP_SYS_PTRACE is missing");
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup("ptrace");
	else
		ret->reason = strdup(err_text(why));
	return 0;
}
