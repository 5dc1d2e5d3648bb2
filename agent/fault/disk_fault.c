#include "fault/disk_fault.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/disk_evidence.h"
#include "fault/disk_match.h"
#include "fault/proc_choice.h"
#include "hold/file_gate.h"
#include "hold/ptrace_hold.h"
#include "hold/syscall_gate.h"
#include "kernel/proc.h"

#define POINT(f, point) node_point((f)->node, (f)->driver->spec->name, point)
#define SEIZE_ROUNDS 20
#define FILE_OPERATIONS (1U << DISK_READ | 1U << DISK_WRITE | 1U << DISK_OPEN)

struct disk_state {
	struct disk_match match;
	struct gate_effect effect;
	_Atomic uint64_t matched;
	struct file_filter {
		struct disk_filter filter;	/* first: the gate's callbacks take it as such */
		_Atomic(struct syscall_gate *) other;
	} file_filter;
	struct disk_filter syscall_filter;
	struct file_gate *file;
	struct syscall_gate *syscall;
	char *why_no_file;	/* why auto has no file gate */
};

static void state_free(struct disk_state *s)
{
	file_gate_free(s->file);
	syscall_gate_free(s->syscall);
	disk_match_done(&s->match);
	free(s->why_no_file);
	free(s);
}
DEFINE_CLEANUP(struct disk_state, state_free)

/* A mark on a mount that others use too would hold them up at each access, and us for ever. */
static int check_mount(const struct fault *f, struct err **err)
{
	uint64_t theirs, ours, nodes;
	int r;

	r = proc_namespace(f->instance->pid, "mnt", &theirs, err);
	if (r >= 0)
		r = proc_namespace(getpid(), "mnt", &ours, err);
	if (r < 0)
		return r;
	if (theirs == ours || (proc_namespace(1, "mnt", &nodes, NULL) == 0 && theirs == nodes))
		return err_set(err, EOPNOTSUPP,
			"the file gate takes a whole mount, and %s has no mount namespace of its own: "
			"every program of the node would pass the gate", f->instance->name);
	return 0;
}

static void file_taken(void *filter, pid_t tid)
{
	const struct file_filter *f = filter;
	const struct syscall_gate *other = atomic_load(&f->other);

	if (other)
		syscall_gate_skip(other, tid);
}

static int open_file_gate(struct disk_state *s, const struct fault *f, unsigned operations,
	struct err **err)
{
	const struct gate_filter filter = {
		.data = &s->file_filter,
		.operations = operations,
		.path = disk_filter_path,
		.process = disk_filter_process,
		.taken = file_taken,
	};
	int dirs[DISK_AREAS_MAX];
	size_t n;
	int r;

	r = file_gate_supported(err);
	if (r >= 0)
		r = check_mount(f, err);
	if (r >= 0 && s->effect.code && !file_gate_can_fail_with(s->effect.code))
		r = err_set(err, EOPNOTSUPP, "the file gate cannot give %s",
			strerrorname_np(s->effect.code));
	if (r < 0)
		return r;
	n = disk_areas_mounts(&s->match.areas, dirs);
	return file_gate_new(&s->effect, &filter, dirs, n, &s->file, err);
}

static int seize_tree(struct disk_state *s, struct err **err)
{
	size_t n_new = 1;

	/* The kernel seizes the children of what is seized; others show in another look. */
	for (int round = 0; n_new > 0 && round < SEIZE_ROUNDS; round++) {
		_cleanup_free_ struct proc_choice *list = NULL;
		_cleanup_free_ struct proc_id *ids = NULL;
		size_t n;
		int r;

		r = proc_choose_tree(&s->match.postmaster, s->match.cluster, &list, &n, err);
		if (r < 0)
			return r;
		ids = calloc(n + 1, sizeof(*ids));
		if (!ids)
			return err_errno(err, ENOMEM, "choose processes");
		for (size_t i = 0; i < n; i++)
			ids[i] = list[i].id;
		r = syscall_gate_seize(s->syscall, ids, n, &n_new, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_syscall_gate(struct disk_state *s, const struct fault *f, unsigned operations,
	struct err **err)
{
	const struct disk_areas *areas = &s->match.areas;
	struct syscall_gate_tree trees[DISK_AREAS_MAX];
	struct gate_filter filter = {.data = &s->syscall_filter, .operations = operations};
	bool by_path = s->match.globs;
	char owner[PTRACE_OWNER_MAX];
	int r;

	snprintf(owner, sizeof(owner), "%s of experiment %s", f->driver->spec->name, f->experiment);

	for (size_t i = 0; i < areas->count; i++) {
		trees[i] = (struct syscall_gate_tree){
			areas->list[i].device, areas->list[i].inode, areas->list[i].class};
		by_path = by_path || !areas->list[i].device;
	}
	if (by_path)
		filter.path = disk_filter_path;
	if (s->match.titles)
		filter.process = disk_filter_process;
	r = syscall_gate_new(&(struct syscall_gate_plan){
		.owner = owner,
		.effect = &s->effect,
		.filter = &filter,
		.postmaster = s->match.postmaster.pid,
		.trees = trees,
		.n_trees = areas->count,
		.classes = s->match.classes,
		.shared = s->file != NULL,
	}, &s->syscall, err);
	if (r < 0)
		return r;
	atomic_store(&s->file_filter.other, s->syscall);
	POINT(f, "loaded");
	r = seize_tree(s, err);
	POINT(f, "seized");
	return r < 0 ? r : syscall_gate_attach(s->syscall, err);
}

/* Which gate takes what. */
static int open_gates(struct disk_state *s, const struct fault *f, struct err **err)
{
	enum disk_mechanism mechanism = (enum disk_mechanism)params_number(f->params, "mechanism");
	unsigned operations = disk_operations(f->params), rest = operations;
	_cleanup_err_ struct err *why = NULL;
	int r;

	if (mechanism != DISK_SYSCALL_GATE && (operations & FILE_OPERATIONS)) {
		r = open_file_gate(s, f, operations & FILE_OPERATIONS, &why);
		if (r < 0 && (mechanism == DISK_FILE_GATE || r != -EOPNOTSUPP))
			return err_set(err, r, "%s", err_text(why));
		if (r < 0)
			s->why_no_file = strdup(err_text(why));
		else
			rest &= ~(1U << DISK_OPEN);
	}
	if (s->effect.code && s->why_no_file && (rest & 1U << DISK_OPEN))
		return err_set(err, EOPNOTSUPP, "an open can only fail by the file gate: %s",
			s->why_no_file);
	return mechanism == DISK_FILE_GATE || !rest ? 0 : open_syscall_gate(s, f, rest, err);
}

static int effect_init(struct disk_state *s, const struct fault *f, const struct gate_effect *effect,
	struct err **err)
{
	s->effect = *effect;
	s->effect.delay.loss_ppm = (uint32_t)params_number(f->params, "percent");
	if (effect->after)
		s->effect.matched = &s->matched;
	if (getrandom(&s->effect.delay.seed, sizeof(s->effect.delay.seed), 0) < 0)
		return err_errno(err, errno, "choose a seed");
	return 0;
}

static int record_of(const struct disk_state *s, cJSON **ret, struct err **err)
{
	cJSON *record;
	uint32_t id = 0;
	int r = s->syscall ? syscall_gate_program_id(s->syscall, &id, err) : 0;

	if (r < 0)
		return r;
	record = json_object();
	json_add_int(record, "pid", s->match.postmaster.pid);
	json_add_uint(record, "start_ticks", s->match.postmaster.start_ticks);
	json_add_uint(record, "program", id);
	*ret = record;
	return 0;
}

int disk_fault_arm(struct fault *f, const struct gate_effect *effect, struct undo *ret,
	struct err **err)
{
	_cleanup_(state_freep) struct disk_state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm %s", f->driver->spec->name);
	POINT(f, "resolving");
	r = disk_match_init(&s->match, f->instance, f->params, err);
	s->file_filter.filter.match = s->syscall_filter.match = &s->match;
	if (r >= 0)
		r = effect_init(s, f, effect, err);
	if (r >= 0)
		r = open_gates(s, f, err);
	if (r >= 0)
		r = record_of(s, &ret->record, err);
	if (r < 0)
		return r;
	f->mechanism = !s->syscall ? "file gate" :
		       s->file ? "file gate and syscall gate" : "syscall gate";
	f->lifetime = LIFETIME_HELD;
	f->state = steal_ptr(s);
	return 0;
}

int disk_fault_fire(struct fault *f, struct err **err)
{
	struct disk_state *s = f->state;
	int r = 0;

	POINT(f, "before-fire");
	if (s->file)
		r = file_gate_fire(s->file, f->deadline_boot_ns, err);
	if (r >= 0 && s->syscall)
		syscall_gate_fire(s->syscall, f->deadline_boot_ns);
	/* From here on nothing of ours keeps the volume mounted. */
	disk_areas_close(&s->match.areas);
	POINT(f, "gates-shut");
	return r;
}

int disk_fault_observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct disk_state *s = f->state;
	struct gate_counts counts;

	(void)err;
	ret->hits = 0;
	ret->detail = json_object();
	if (s->file) {
		file_gate_counts(s->file, &counts);
		ret->hits += counts.delayed + counts.failed;
		json_add_item(ret->detail, "file_gate", disk_evidence(&counts));
	}
	if (s->syscall) {
		cJSON *gate;

		syscall_gate_counts(s->syscall, &counts);
		ret->hits += counts.delayed + counts.failed;
		gate = disk_evidence(&counts);
		json_add_uint(gate, "missed", syscall_gate_missed(s->syscall));
		json_add_uint(gate, "processes", syscall_gate_processes(s->syscall));
		json_add_item(ret->detail, "syscall_gate", gate);
	}
	if (s->why_no_file)
		json_add_string(ret->detail, "no_file_gate", s->why_no_file);
	return 0;
}

void disk_fault_release(struct fault *f)
{
	POINT(f, "before-release");
	state_free(f->state);
	f->state = NULL;
	POINT(f, "released");
}

/* Held: the kernel has ended it with the descriptors and the tracer. */
int disk_fault_revert(const struct undo *u, struct err **err)
{
	(void)u;
	(void)err;
	return 0;
}

bool disk_fault_target_is_gone(const struct fault *f)
{
	/* Both gates are about that postmaster and its descendants. */
	(void)f;
	return true;
}
