/* The part of disk_fault.h that knows the record alone, and the trial of the gates. */
#include "fault/disk_fault.h"

#include <bpf/bpf.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/probe_process.h"
#include "hold/file_gate.h"
#include "hold/syscall_gate.h"
#include "kernel/proc.h"

/* Programs leave after a grace period of RCU, tracees with the last thread of a dead agent. */
#define CLEAN_WITHIN_NS (2 * NS_PER_S)
#define CLEAN_POLL_US 2000

static const char program_name[] = "syscall_pick";

/* It comes from a file. */
struct record {
	struct proc_id postmaster;
	uint32_t program;
};

static const struct json_field record_fields[] = {
	{"pid", JSON_PID, offsetof(struct record, postmaster.pid), true, NULL, NULL},
	{"start_ticks", JSON_UINT64, offsetof(struct record, postmaster.start_ticks), true, NULL, NULL},
	{"program", JSON_UINT32, offsetof(struct record, program), true, NULL, NULL},
	JSON_FIELD_END,
};

static bool program_is_loaded(uint32_t id)
{
	_cleanup_close_ int fd = id ? bpf_prog_get_fd_by_id(id) : -1;
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
	       strcmp(info.name, program_name) == 0;
}

/* Is that tracer a thread of ours, or gone? Somebody else's is none of our business. */
static bool is_our_tracer(pid_t tracer)
{
	_cleanup_free_ char *tgid = NULL;

	if (proc_status_field(tracer, "Tgid", &tgid, NULL) < 0)
		return true;
	return (pid_t)strtol(tgid, NULL, 10) == getpid();
}

/* A process of the tree that stands in a stop of ours, else 0. */
static pid_t stopped_process(const struct proc_id *postmaster)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n;

	if (proc_tree(postmaster->pid, &ids, &n, NULL) < 0 ||
	    ids[0].start_ticks != postmaster->start_ticks)
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct proc_stat s;
		pid_t tracer = 0;

		if (proc_read_stat(ids[i].pid, &s, NULL) == 0 && s.state == 't' &&
		    proc_tracer(ids[i].pid, &tracer, NULL) == 0 && is_our_tracer(tracer))
			return ids[i].pid;
	}
	return 0;
}

int disk_fault_verify_clean(const struct undo *u, struct err **err)
{
	uint64_t until = now_ns() + CLEAN_WITHIN_NS;
	struct record record = {0};
	pid_t pid = 0;
	int r;

	r = u->record ? json_dispatch(u->record, record_fields, &record, JSON_REFUSE_UNKNOWN, err) :
			err_set(err, EBADMSG, "there is no record");
	if (r < 0)
		return err_wrap(err, EBADMSG, "record of %s", u->spec->name);
	for (;;) {
		bool loaded = program_is_loaded(record.program);

		/* One that another fault of this agent holds just now runs a moment later. */
		pid = loaded ? 0 : stopped_process(&record.postmaster);
		if (!loaded && !pid)
			return 0;
		if (now_ns() >= until)
			return loaded ? err_set(err, EBUSY, "BPF program %u is still loaded",
						record.program) :
					err_set(err, EBUSY, "process %d is still stopped by ptrace", pid);
		usleep(CLEAN_POLL_US);
	}
}

static int try_syscall_gate(pid_t pid, struct err **err)
{
	_cleanup_(syscall_gate_freep) struct syscall_gate *gate = NULL;
	const struct gate_effect effect = {.delay = {.delay_ns = NS_PER_MS, .loss_ppm = 1}};
	const struct gate_filter filter = {.operations = 1U << DISK_FSYNC};
	struct proc_id id;
	size_t n_new;
	int r;

	r = proc_identify(pid, &id, err);
	if (r >= 0)
		r = syscall_gate_new(&(struct syscall_gate_plan){
			.effect = &effect, .filter = &filter, .postmaster = pid}, &gate, err);
	if (r >= 0)
		r = syscall_gate_seize(gate, &id, 1, &n_new, err);
	if (r >= 0 && n_new != 1)
		r = err_set(err, EOPNOTSUPP, "a process cannot be seized");
	return r < 0 ? r : syscall_gate_attach(gate, err);
}

int disk_fault_probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL, *why_file = NULL;
	pid_t pid = probe_process_start();
	int r, file;

	(void)node;
	if (pid < 0)
		return err_errno(err, errno, "start a process to try ptrace on");
	r = try_syscall_gate(pid, &why);
	probe_process_end(pid);
	file = file_gate_supported(&why_file);
	ret->supported = r >= 0 || file >= 0;
	if (ret->supported)
		ret->mechanism = strdup(r < 0 ? "file gate" :
			file < 0 ? "syscall gate" : "file gate and syscall gate");
	if (r < 0)
		ret->reason = strdup(err_text(why));
	else if (file < 0)
		ret->reason = strdup(err_text(why_file));
	return 0;
}
