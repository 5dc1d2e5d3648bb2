/*
 * clock-skew: processes of an instance read clocks that are wrong. Each process's own copy of the
 * vDSO is patched (kernel/vdso.h) while all of them stand still for some milliseconds, held by ptrace
 * (hold/ptrace_hold.h) so that our death lets them go. The patch has an end of its own (expiring),
 * children inherit it, and its token tells whose it is, so that the end needs no list of processes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/clock_choice.h"
#include "fault/clock_patch.h"
#include "fault/clock_skew_record.h"
#include "fault/fault.h"
#include "fault/proc_choice.h"
#include "hold/ptrace_hold.h"
#include "kernel/proc.h"
#include "kernel/vdso.h"

#define FAULT	       "clock-skew"
#define LISTED_MAX     64
#define SEIZE_ROUNDS   20
#define STOP_WAIT_NS   (250 * NS_PER_MS)
#define FIRE_NS	       (3 * NS_PER_S)
#define AGAIN_US       200
/* Programs that were started, or entered the container, since the last look. */
#define RESCAN_FIRST_US 1000
#define RESCAN_US	250000

enum clocks { CLOCKS_REALTIME, CLOCKS_MONOTONIC, CLOCKS_BOTH };
enum direction { DIRECTION_FORWARD, DIRECTION_BACK };
enum mechanism { MECHANISM_DETOUR, MECHANISM_STUB };

struct seen {
	struct proc_choice choice;
	enum clock_patch_state state;
	bool other_time;	/* a time namespace of its own: left alone */
};

struct skew {
	const struct fault *fault;
	struct proc_id postmaster;
	enum clock_choice which;
	enum clocks clocks;
	uint64_t after_ns;
	struct vdso_image own;
	struct vdso_skew asked;
	struct vdso_patch patch;
	struct seen *seen;		/* of the last look, by what was chosen */
	size_t n_seen;
	size_t hits;			/* the most that were skewed at one time */
	uint64_t stop_ns;		/* how long they stood still at firing */
	unsigned tries;
	sd_event_source *timer;
	struct err *last;		/* of the last look while active */
};

static void skew_free(struct skew *z)
{
	sd_event_source_disable_unref(z->timer);
	vdso_image_done(&z->own);
	vdso_patch_done(&z->patch);
	err_free(z->last);
	free(z->seen);
	free(z);
}
DEFINE_CLEANUP(struct skew, skew_free)

static int choose(const struct skew *z, struct proc_choice **ret, size_t *ret_count,
	struct err **err)
{
	return clock_choose(&z->postmaster, z->fault->instance, z->which, ret, ret_count, err);
}

/* Its monotonic clocks have an offset that ours have not. */
static bool has_other_time(const struct skew *z, pid_t pid)
{
	uint64_t ours, theirs;

	return z->clocks != CLOCKS_REALTIME && proc_namespace(getpid(), "time", &ours, NULL) == 0 &&
	       proc_namespace(pid, "time", &theirs, NULL) == 0 && ours != theirs;
}

/* Chooses anew and looks at each. */
static int look(struct skew *z, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	struct seen *seen;
	size_t n = 0, skewed = 0;
	int r;

	r = choose(z, &list, &n, err);
	if (r < 0)
		return r;
	seen = calloc(n + 1, sizeof(*seen));
	if (!seen)
		return err_errno(err, ENOMEM, "look at clocks");
	for (size_t i = 0; i < n; i++) {
		seen[i].choice = list[i];
		seen[i].state = clock_patch_look(list[i].id.pid, &z->own, z->asked.token);
		seen[i].other_time = has_other_time(z, list[i].id.pid);
		skewed += seen[i].state == CLOCK_PATCH_OURS;
	}
	free(z->seen);
	z->seen = seen;
	z->n_seen = n;
	if (skewed > z->hits)
		z->hits = skewed;
	return 0;
}

static bool is_wanted(const struct seen *s)
{
	return s->state == CLOCK_PATCH_NONE && !s->other_time;
}

static size_t count_wanted(const struct skew *z)
{
	size_t n = 0;

	for (size_t i = 0; i < z->n_seen; i++)
		n += is_wanted(&z->seen[i]);
	return n;
}

static int seize_seen(struct skew *z, struct ptrace_hold *hold, size_t *ret_new, struct err **err)
{
	_cleanup_free_ struct proc_id *ids = calloc(z->n_seen + 1, sizeof(*ids));
	size_t n = 0;

	if (!ids)
		return err_errno(err, ENOMEM, "choose processes");
	for (size_t i = 0; i < z->n_seen; i++)
		if (is_wanted(&z->seen[i]))
			ids[n++] = z->seen[i].choice.id;
	return ptrace_hold_seize(hold, ids, n, ret_new, err);
}

/* From what was seen last, until a look shows nothing new. The kernel seizes the children of what is
 * seized; what forked before that shows in the next look. */
static int seize_all(struct skew *z, struct ptrace_hold *hold, struct err **err)
{
	size_t n_new = 0;
	int r;

	for (int round = 0; round < SEIZE_ROUNDS; round++) {
		r = seize_seen(z, hold, &n_new, err);
		if (r < 0 || (round > 0 && n_new == 0))
			return r;
		r = look(z, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void mark_skewed(struct skew *z)
{
	for (size_t i = 0; i < z->n_seen; i++)
		if (is_wanted(&z->seen[i]))
			z->seen[i].state = CLOCK_PATCH_OURS;
}

/* Everything that is to be skewed stands still, is patched, and runs on. -EAGAIN: see
 * clock_patch_put(). */
static int put_once(struct skew *z, size_t *ret_count, struct err **err)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *hold = NULL;
	uint64_t start;
	size_t running;
	int r;

	r = ptrace_hold_new(&hold, err);
	if (r >= 0)
		r = seize_all(z, hold, err);
	start = now_ns();
	if (r >= 0)
		r = ptrace_hold_stop(hold, STOP_WAIT_NS, &running);
	node_point(z->fault->node, FAULT, "stopped");
	if (r >= 0)
		r = clock_patch_put(hold, &z->own, &z->patch, z->asked.token, ret_count, err);
	node_point(z->fault->node, FAULT, "patched");
	ptrace_hold_free(steal_ptr(hold));
	z->stop_ns = now_ns() - start;
	if (r >= 0)
		mark_skewed(z);
	return r;
}

/* Clocks that count the node's uptime cannot go back before its start. */
static int check_monotonic(const struct skew *z, struct err **err)
{
	uint64_t up = now_ns();
	char text[UNITS_TEXT_MAX];

	if (z->clocks == CLOCKS_REALTIME || z->asked.offset_ns >= 0 ||
	    (uint64_t)-z->asked.offset_ns < up)
		return 0;
	return err_set(err, EINVAL,
		"offset: the monotonic clock cannot go back so far: this node is up for only %s",
		duration_human(up, text));
}

/* By how much the clocks are ahead at the most; 0 for clocks that are behind. */
static uint64_t ahead_ns(const struct skew *z)
{
	const struct fault *f = z->fault;
	uint64_t length = f->duration_ns > z->after_ns ? f->duration_ns - z->after_ns : 0;

	if (z->asked.offset_ns < 0 || z->asked.drift_ppm < 0)
		return 0;
	return (uint64_t)z->asked.offset_ns +
	       (uint64_t)((unsigned __int128)length * (uint64_t)z->asked.drift_ppm / 1000000);
}

/* Waits last longer by as much, and no revert ends them. */
static int check_waits(const struct skew *z, struct err **err)
{
	uint64_t ahead = ahead_ns(z);
	char given[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];

	if (z->clocks == CLOCKS_REALTIME || ahead <= CLOCK_WAITS_LONGER_MAX_NS)
		return 0;
	return err_set(err, EINVAL,
		"drift: with it monotonic clocks are %s ahead at the fault's end (allowed: up to %s): waits "
		"may last longer by it, also afterwards", duration_human(ahead, given),
		duration_format(CLOCK_WAITS_LONGER_MAX_NS, most));
}

static int read_params(struct skew *z, const struct fault *f, struct err **err)
{
	const struct params *p = f->params;
	bool back = params_number(p, "direction") == DIRECTION_BACK;
	int r;

	z->fault = f;
	z->postmaster = (struct proc_id){f->instance->pid, f->instance->start_ticks};
	z->which = (enum clock_choice)params_number(p, "processes");
	z->clocks = (enum clocks)params_number(p, "clocks");
	z->after_ns = params_number(p, "after");
	z->asked.offset_ns = (int64_t)params_number(p, "offset") * (back ? -1 : 1);
	z->asked.drift_ppm = (int32_t)params_number(p, "drift") * (back ? -1 : 1);
	z->asked.strobe_ns = params_number(p, "strobe");
	if (f->duration_ns && z->after_ns >= f->duration_ns)
		return err_set(err, EINVAL, "after: the fault ends before the clock would change");
	r = check_monotonic(z, err);
	return r < 0 ? r : check_waits(z, err);
}

/* Now, on each clock that is to be wrong. */
static void set_start(struct skew *z)
{
	static const clockid_t wall[] = {CLOCK_REALTIME, CLOCK_REALTIME_COARSE};
	static const clockid_t uptime[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
		CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
	static const clockid_t precise[VDSO_CLOCKS] = {
		[CLOCK_REALTIME_COARSE] = CLOCK_REALTIME,
		[CLOCK_MONOTONIC] = CLOCK_MONOTONIC,
		[CLOCK_MONOTONIC_COARSE] = CLOCK_MONOTONIC,
		[CLOCK_MONOTONIC_RAW] = CLOCK_MONOTONIC_RAW,
		[CLOCK_BOOTTIME] = CLOCK_BOOTTIME,
	};

	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		z->asked.start_ns[i] = UINT64_MAX;
	for (size_t i = 0; i < ELEMENTS(wall) && z->clocks != CLOCKS_MONOTONIC; i++)
		z->asked.start_ns[wall[i]] = clock_ns(precise[wall[i]]) + z->after_ns;
	for (size_t i = 0; i < ELEMENTS(uptime) && z->clocks != CLOCKS_REALTIME; i++)
		z->asked.start_ns[uptime[i]] = clock_ns(precise[uptime[i]]) + z->after_ns;
}

static int build(struct skew *z, struct err **err)
{
	bool stub = params_number(z->fault->params, "mechanism") == MECHANISM_STUB;
	uint64_t now = boot_ns(), end = z->fault->deadline_boot_ns;

	vdso_patch_done(&z->patch);
	z->asked.length_ns = end > now + z->after_ns ? end - now - z->after_ns : 0;
	set_start(z);
	return vdso_patch_build(&z->own, &z->asked, stub, &z->patch, err);
}

/* All that could stand in the way shows before anything is journaled. */
static int check_processes(const struct skew *z, struct err **err)
{
	size_t wanted = count_wanted(z);

	for (size_t i = 0; i < z->n_seen; i++) {
		const struct seen *s = &z->seen[i];
		pid_t pid = s->choice.id.pid, tracer = 0;

		if (s->state == CLOCK_PATCH_OTHER)
			return err_set(err, EBUSY, "process %d (%s): %s", pid, s->choice.kind,
				clock_patch_reason(s->state));
		if (is_wanted(s) && proc_tracer(pid, &tracer, NULL) >= 0 && tracer)
			return ptrace_refuse_traced(pid, s->choice.kind, tracer, err);
	}
	if (wanted > 0)
		return 0;
	for (size_t i = 0; i < z->n_seen; i++)
		if (z->seen[i].state != CLOCK_PATCH_GONE)
			return err_set(err, EOPNOTSUPP, "process %d (%s): %s", z->seen[i].choice.id.pid,
				z->seen[i].choice.kind, z->seen[i].other_time ?
					"it has a time namespace of its own" :
					clock_patch_reason(z->seen[i].state));
	return err_set(err, ENOENT, "%s has no such process in its cgroup %s",
		z->fault->instance->name, z->fault->instance->cgroup);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(skew_freep) struct skew *z = calloc(1, sizeof(*z));
	int r;

	if (!z)
		return err_errno(err, ENOMEM, "arm " FAULT);
	r = read_params(z, f, err);
	if (r >= 0)
		r = clock_token_draw(&z->asked.token, err);
	if (r >= 0)
		r = vdso_own(&z->own, err);
	if (r >= 0)
		r = build(z, err);
	node_point(f->node, FAULT, "looking");
	if (r >= 0)
		r = look(z, err);
	if (r >= 0)
		r = check_processes(z, err);
	if (r < 0)
		return r;
	ret->record = clock_record(z->asked.token);
	f->mechanism = z->patch.mechanism;
	f->lifetime = LIFETIME_EXPIRING;
	f->state = steal_ptr(z);
	return 0;
}

static int put(struct skew *z, uint64_t limit_ns, size_t *ret_count, struct err **err)
{
	uint64_t end = now_ns() + limit_ns;
	int r;

	for (z->tries = 1; (r = put_once(z, ret_count, err)) == -EAGAIN && now_ns() < end; z->tries++)
		usleep(AGAIN_US);
	return r == -EAGAIN ? err_wrap(err, EBUSY, "in %u tries", z->tries) : r;
}

static int on_rescan(sd_event_source *source, uint64_t usec, void *data)
{
	struct skew *z = data;
	struct err *why = NULL;
	size_t n;
	int r;

	(void)usec;
	node_point(z->fault->node, FAULT, "rescanning");
	r = look(z, &why);
	/* One try is enough: there is another look soon. */
	if (r >= 0 && count_wanted(z) > 0 && boot_ns() < z->fault->deadline_boot_ns)
		r = put(z, 0, &n, &why);
	if (r >= 0)
		r = look(z, &why);
	err_free(z->last);
	z->last = why;
	if (sd_event_source_set_time_relative(source, RESCAN_US) >= 0)
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static int fire(struct fault *f, struct err **err)
{
	struct skew *z = f->state;
	size_t n = 0;
	int r;

	node_point(f->node, FAULT, "stopping");
	r = build(z, err);
	if (r >= 0)
		r = put(z, FIRE_NS, &n, err);
	if (r < 0)
		return r;
	z->hits = n;
	r = sd_event_add_time_relative(f->node->event, &z->timer, CLOCK_MONOTONIC, RESCAN_FIRST_US, 1,
		on_rescan, z);
	return r < 0 ? err_errno(err, r, "set the timer of the next look") : 0;
}

static cJSON *asked_json(const struct skew *z)
{
	const struct params *p = z->fault->params;
	cJSON *object = json_object();
	static const char *const names[] = {"offset", "drift", "direction", "strobe", "after", "clocks",
		"processes"};
	_cleanup_json_ cJSON *all = params_to_json(p);

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		const cJSON *item = json_get(all, names[i]);

		if (item)
			json_add_item(object, names[i], cJSON_Duplicate(item, true));
	}
	return object;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct skew *z = f->state;
	cJSON *listed = json_array(), *left_out = json_array();
	uint64_t skewed = 0;

	(void)err;
	for (size_t i = 0; i < z->n_seen; i++) {
		const struct seen *s = &z->seen[i];
		bool ours = s->state == CLOCK_PATCH_OURS;
		cJSON *item;

		skewed += ours;
		if (s->state == CLOCK_PATCH_GONE || i >= LISTED_MAX)
			continue;
		item = json_object();
		json_add_int(item, "pid", s->choice.id.pid);
		json_add_string(item, "kind", s->choice.kind);
		json_add_string(item, ours ? "mechanism" : "why", ours ? z->patch.mechanism :
			s->other_time ? "it has a time namespace of its own" :
					clock_patch_reason(s->state));
		json_append(ours ? listed : left_out, item);
	}
	ret->hits = z->hits;
	ret->detail = json_object();
	json_add_item(ret->detail, "skew", asked_json(z));
	json_add_string(ret->detail, "mechanism", z->patch.mechanism);
	if (z->patch.remark)
		json_add_string(ret->detail, "remark", z->patch.remark);
	json_add_uint(ret->detail, "processes", skewed);
	if (ahead_ns(z) > 0)
		json_add_ms(ret->detail, "waits_longer_ms", ahead_ns(z));
	json_add_ms(ret->detail, "stop_ms", z->stop_ns);
	json_add_uint(ret->detail, "tries", z->tries);
	json_add_item(ret->detail, "listed", listed);
	json_add_item(ret->detail, "not_skewed", left_out);
	if (z->last)
		json_add_string(ret->detail, "last_look", err_text(z->last));
	return 0;
}

/* Nothing is held: what was written stays until revert(), or its own end. */
static void release(struct fault *f)
{
	node_point(f->node, FAULT, "releasing");
	skew_free(f->state);
	f->state = NULL;
}

static bool target_is_gone(const struct fault *f)
{
	const struct skew *z = f->state;
	_cleanup_free_ struct proc_choice *list = NULL;
	size_t n = 0;

	return choose(z, &list, &n, NULL) < 0 || n == 0;
}

const struct fault_driver driver_clock_skew = {
	.spec = &fault_clock_skew,
	.probe = clock_probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
	.revert = clock_record_revert,
	.verify_clean = clock_record_verify,
	.target_is_gone = target_is_gone,
};
