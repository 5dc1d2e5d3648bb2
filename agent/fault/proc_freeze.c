/*
 * proc-freeze: processes of an instance stand still, by ptrace (held: hold/ptrace_hold.h) or by the
 * freezer of the instance's own cgroup (journaled: it stays frozen until somebody writes it back).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/proc_choice.h"
#include "fault/proc_freeze_record.h"
#include "fault/proc_named.h"
#include "fault/share.h"
#include "hold/ptrace_hold.h"
#include "kernel/cgroup.h"
#include "kernel/proc.h"

#define FAULT	       "proc-freeze"
#define LISTED_MAX     64
#define SEIZE_ROUNDS   20
#define STOP_WAIT_NS   (250 * NS_PER_MS)
/* What comes to life while the fault is active and is no child of what is held. */
#define RESCAN_FIRST_US 1000
#define RESCAN_US	200000
#define PPM_ALL		1000000

enum which { WHICH_INSTANCE, WHICH_POSTGRES, WHICH_TITLES, WHICH_MANAGER };
enum mechanism { MECHANISM_PTRACE, MECHANISM_CGROUP };

struct freeze {
	const struct fault *fault;
	struct proc_id postmaster;
	enum which which;
	uint64_t percent_ppm, most;	/* of those named; most: 0 for any number */
	struct ptrace_hold *hold;	/* ptrace */
	char *file;			/* cgroup: the freezer's */
	int lock_fd;			/* of that file: held from arming on */
	bool marked;			/* our freeze can be told from another's */
	bool fired;
	uint64_t stop_ns;		/* how long it took until all stood */
	sd_event_source *timer;
	struct err *last;		/* of the last rescan */
	struct proc_choice *known;	/* kinds, by pid, as they were chosen */
	size_t n_known;
};

static void freeze_free(struct freeze *z)
{
	sd_event_source_disable_unref(z->timer);
	ptrace_hold_free(z->hold);
	err_free(z->last);
	closep(&z->lock_fd);
	free(z->known);
	free(z->file);
	free(z);
}
DEFINE_CLEANUP(struct freeze, freeze_free)

static int choose(const struct freeze *z, struct proc_choice **ret, size_t *ret_count,
	struct err **err)
{
	const struct instance_info *i = z->fault->instance;

	switch (z->which) {
	case WHICH_INSTANCE:
		return proc_choose_group(&z->postmaster, i->cluster_name, i->cgroup, ret, ret_count, err);
	case WHICH_TITLES:
		return proc_choose_named(&z->postmaster, i, z->fault->params, ret, ret_count, err);
	case WHICH_MANAGER:
		return proc_choose_manager(&z->postmaster, i, ret, ret_count, err);
	case WHICH_POSTGRES:
	default:
		return proc_choose_tree(&z->postmaster, i->cluster_name, ret, ret_count, err);
	}
}

/* A share is one of those that were there when it was armed: none comes later. */
static bool is_share(const struct freeze *z)
{
	return params_is_set(z->fault->params, "percent") || params_is_set(z->fault->params, "count");
}

static int seize_once(struct freeze *z, size_t *ret_new, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n;
	int r;

	r = choose(z, &list, &n, err);
	if (r < 0)
		return r;
	if (is_share(z))
		n = share_pick(list, n, sizeof(*list), z->percent_ppm, z->most);
	ids = calloc(n + 1, sizeof(*ids));
	if (!ids)
		return err_errno(err, ENOMEM, "choose processes");
	for (size_t i = 0; i < n; i++)
		ids[i] = list[i].id;
	r = ptrace_hold_seize(z->hold, ids, n, ret_new, err);
	if (r < 0)
		return r;
	if (*ret_new > 0) {
		free(z->known);
		z->known = steal_ptr(list);
		z->n_known = n;
	}
	return 0;
}

/* The kernel seizes the children of what is seized; what forked before that shows in another look. */
static int seize_all(struct freeze *z, struct err **err)
{
	size_t n_new = 1;

	for (int round = 0; n_new > 0 && round < (is_share(z) ? 1 : SEIZE_ROUNDS); round++) {
		int r = seize_once(z, &n_new, err);

		if (r < 0)
			return r;
	}
	if (z->n_known == 0)
		return err_set(err, ENOENT, "no process of %s matches titles, application and client now",
			z->fault->instance->name);
	return 0;
}

static int arm_ptrace(struct freeze *z, struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_free_ struct ptrace_held *held = NULL;
	char owner[PTRACE_OWNER_MAX];
	/* By name: a manager's child may be the next postmaster, a postmaster's a session. */
	const struct ptrace_hooks hooks = {
		.owner = owner,
		.leave_children = z->which == WHICH_TITLES || z->which == WHICH_MANAGER,
	};
	size_t n;
	int r;

	node_point(f->node, FAULT, "seizing");
	snprintf(owner, sizeof(owner), FAULT " of experiment %s", f->experiment);
	r = ptrace_hold_new_hooked(&hooks, &z->hold, err);
	if (r >= 0)
		r = seize_all(z, err);
	node_point(f->node, FAULT, "seized");
	if (r >= 0)
		r = ptrace_hold_list(z->hold, &held, &n, err);
	if (r < 0)
		return r;
	ret->record = freeze_record_ptrace(held, n);
	f->mechanism = "ptrace";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

/* Two at a time would undo each other. */
static int freezer_lock(struct freeze *z, struct err **err)
{
	z->lock_fd = open(z->file, O_RDONLY | O_CLOEXEC);
	if (z->lock_fd < 0)
		return err_errno(err, errno, "open %s", z->file);
	if (flock(z->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(err, EBUSY, "another proc-freeze has %s already: end that first", z->file);
	return err_errno(err, errno, "lock %s", z->file);
}

static int arm_cgroup(struct freeze *z, struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	bool frozen;
	size_t n;
	int r;

	r = choose(z, &list, &n, err);
	if (r >= 0)
		r = cgroup_freezer(f->instance->cgroup, &z->file, err);
	if (r >= 0)
		r = freezer_lock(z, err);
	if (r >= 0)
		r = cgroup_is_frozen(z->file, &frozen, err);
	if (r < 0)
		return r;
	if (frozen)
		return err_set(err, EBUSY, "%s says frozen already, by somebody else", z->file);
	z->known = steal_ptr(list);
	z->n_known = n;
	z->marked = freeze_mark_possible(z->file);
	ret->record = freeze_record_cgroup(z->file, z->marked ? f->experiment : NULL);
	f->mechanism = "cgroup";
	f->lifetime = LIFETIME_JOURNALED;
	return 0;
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(freeze_freep) struct freeze *z = calloc(1, sizeof(*z));
	int r;

	if (!z)
		return err_errno(err, ENOMEM, "arm " FAULT);
	z->fault = f;
	z->lock_fd = -1;
	z->postmaster = (struct proc_id){f->instance->pid, f->instance->start_ticks};
	z->which = (enum which)params_number(f->params, "processes");
	z->percent_ppm = params_is_set(f->params, "percent") ? params_number(f->params, "percent") :
							       PPM_ALL;
	z->most = params_number(f->params, "count");
	if (params_number(f->params, "mechanism") == MECHANISM_CGROUP)
		r = arm_cgroup(z, f, ret, err);
	else
		r = arm_ptrace(z, f, ret, err);
	if (r < 0)
		return r;
	f->state = steal_ptr(z);
	return 0;
}

/* A session that began after arming, a program that entered the container. */
static int on_rescan(sd_event_source *source, uint64_t usec, void *data)
{
	struct freeze *z = data;
	struct err *why = NULL;
	size_t n_new = 0;

	(void)usec;
	node_point(z->fault->node, FAULT, "rescanning");
	if (proc_is_alive(&z->postmaster) && seize_once(z, &n_new, &why) < 0 && !why)
		err_set(&why, EIO, "looking for new processes failed");
	err_free(z->last);
	z->last = why;
	if (sd_event_source_set_time_relative(source, n_new ? RESCAN_FIRST_US : RESCAN_US) >= 0)
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static int fire_ptrace(struct freeze *z, struct err **err)
{
	uint64_t start = now_ns();
	size_t running;
	int r;

	r = ptrace_hold_stop(z->hold, STOP_WAIT_NS, &running);
	z->stop_ns = now_ns() - start;
	if (r < 0)
		return err_errno(err, r, "stop the processes");
	/* The postmaster's tree cannot grow any more, the others can. */
	if (z->which == WHICH_POSTGRES || is_share(z))
		return 0;
	r = sd_event_add_time_relative(z->fault->node->event, &z->timer, CLOCK_MONOTONIC,
		RESCAN_FIRST_US, RESCAN_FIRST_US, on_rescan, z);
	return r < 0 ? err_errno(err, r, "set the timer of the next look") : 0;
}

static int fire_cgroup(struct freeze *z, struct err **err)
{
	uint64_t start = now_ns();
	bool frozen;
	int r;

	r = cgroup_is_frozen(z->file, &frozen, err);
	if (r < 0)
		return r;
	if (frozen)
		return err_set(err, EBUSY, "%s says frozen already, by somebody else", z->file);
	if (z->marked)
		r = freeze_mark_set(z->file, z->fault->experiment, err);
	if (r == -ENOENT)
		return err_set(err, ESTALE, "the control group is gone: %s", z->file);
	if (r >= 0)
		r = cgroup_freeze(z->file, true, err);
	z->stop_ns = now_ns() - start;
	return r;
}

static int fire(struct fault *f, struct err **err)
{
	struct freeze *z = f->state;
	int r;

	node_point(f->node, FAULT, "stopping");
	r = z->hold ? fire_ptrace(z, err) : fire_cgroup(z, err);
	node_point(f->node, FAULT, "stopped");
	z->fired = r >= 0;
	return r;
}

static const char *kind_of(const struct freeze *z, pid_t pid)
{
	for (size_t i = 0; i < z->n_known; i++)
		if (z->known[i].id.pid == pid)
			return z->known[i].kind;
	return "new";
}

/* A thread that does not stop waits in the kernel for something that cannot be interrupted. */
static void add_running(cJSON *array, const struct ptrace_held *p)
{
	cJSON *item = json_object();
	struct proc_stat s;
	char state[2] = "?";

	if (proc_read_stat(p->running, &s, NULL) == 0)
		state[0] = s.state;
	json_add_int(item, "pid", p->id.pid);
	json_add_int(item, "thread", p->running);
	json_add_string(item, "state", state);
	json_append(array, item);
}

static int observe_ptrace(const struct freeze *z, struct evidence *ret, struct err **err)
{
	_cleanup_free_ struct ptrace_held *held = NULL;
	cJSON *listed = json_array(), *running = json_array();
	uint64_t threads = 0, stopped = 0, hits = 0;
	size_t n = 0;
	int r;

	r = ptrace_hold_list(z->hold, &held, &n, err);
	for (size_t i = 0; i < n; i++) {
		cJSON *item;

		threads += held[i].threads;
		stopped += held[i].stopped;
		hits += held[i].stopped == held[i].threads;
		if (held[i].running && z->fired && cJSON_GetArraySize(running) < LISTED_MAX)
			add_running(running, &held[i]);
		if (i >= LISTED_MAX)
			continue;
		item = json_object();
		json_add_int(item, "pid", held[i].id.pid);
		json_add_string(item, "kind", kind_of(z, held[i].id.pid));
		json_append(listed, item);
	}
	ret->hits = hits;
	ret->detail = json_object();
	json_add_uint(ret->detail, "processes", n);
	json_add_uint(ret->detail, "threads", threads);
	json_add_uint(ret->detail, "stopped_threads", stopped);
	json_add_ms(ret->detail, "stop_ms", z->stop_ns);
	json_add_uint(ret->detail, "ptrace_stops", ptrace_hold_events(z->hold));
	json_add_item(ret->detail, "not_stopped", running);
	json_add_item(ret->detail, "listed", listed);
	if (z->last)
		json_add_string(ret->detail, "last_look", err_text(z->last));
	return r;
}

static int observe_cgroup(const struct freeze *z, struct evidence *ret, struct err **err)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	bool frozen = false;
	size_t n = 0;
	int r;

	r = cgroup_is_frozen(z->file, &frozen, err);
	if (r < 0)
		return r;
	/* A group that is gone has no processes. */
	if (frozen && cgroup_processes(z->fault->instance->cgroup, &ids, &n, NULL) < 0)
		n = 0;
	ret->hits = z->fired ? n : 0;
	ret->detail = json_object();
	json_add_string(ret->detail, "file", z->file);
	json_add_bool(ret->detail, "frozen", frozen);
	json_add_uint(ret->detail, "processes", n);
	json_add_ms(ret->detail, "stop_ms", z->stop_ns);
	json_add_item(ret->detail, "listed", proc_choices_to_json(z->known, z->n_known, LISTED_MAX));
	return 0;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct freeze *z = f->state;

	return z->hold ? observe_ptrace(z, ret, err) : observe_cgroup(z, ret, err);
}

static void release(struct fault *f)
{
	node_point(f->node, FAULT, "releasing");
	freeze_free(f->state);
	f->state = NULL;
	node_point(f->node, FAULT, "released");
}

static bool target_is_gone(const struct fault *f)
{
	const struct freeze *z = f->state;
	_cleanup_free_ struct ptrace_held *held = NULL;
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n = 0;

	if (z->hold)
		return ptrace_hold_list(z->hold, &held, &n, NULL) == 0 && n == 0;
	return cgroup_processes(f->instance->cgroup, &ids, &n, NULL) < 0 || n == 0;
}

const struct fault_driver driver_proc_freeze = {
	.spec = &fault_proc_freeze,
	.probe = freeze_probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
	.revert = freeze_record_revert,
	.verify_clean = freeze_record_verify,
	.target_is_gone = target_is_gone,
};
