#include "fault/clock_patch.h"

#include <errno.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "kernel/proc.h"

#define ROUNDS	     20
#define STOP_WAIT_NS (250 * NS_PER_MS)
/* Calls that a gate keeps never count as stopped. */
#define PAUSE_NS     (20 * NS_PER_MS)
#define REMOVE_NS    (3 * NS_PER_S)
#define AGAIN_US     200
/* A signal handler may have interrupted code of ours: it goes back there within this time. */
#define LEAVE_US     5000

static enum clock_patch_state state_of(const struct vdso_process *p, const struct vdso_image *own,
	uint64_t token)
{
	struct vdso_block block;

	if (vdso_block_of(p, own->padding, &block))
		return block.token == token ? CLOCK_PATCH_OURS : CLOCK_PATCH_OTHER;
	return memcmp(p->bytes, own->bytes, own->size) == 0 ? CLOCK_PATCH_NONE : CLOCK_PATCH_STRANGE;
}

static enum clock_patch_state process_open(pid_t pid, const struct vdso_image *own, uint64_t token,
	struct vdso_process *ret)
{
	int r = vdso_open(pid, own, ret, NULL);

	if (r == -ESRCH)
		return CLOCK_PATCH_GONE;
	return r < 0 ? CLOCK_PATCH_UNFIT : state_of(ret, own, token);
}

enum clock_patch_state clock_patch_look(pid_t pid, const struct vdso_image *own, uint64_t token)
{
	_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};

	return process_open(pid, own, token, &p);
}

const char *clock_patch_reason(enum clock_patch_state state)
{
	switch (state) {
	case CLOCK_PATCH_OTHER:
		return "its clock is skewed by another experiment";
	case CLOCK_PATCH_STRANGE:
		return "its vDSO was changed by somebody else (a debugger's breakpoint?)";
	case CLOCK_PATCH_UNFIT:
		return "it has no vDSO, or one of another kind (a 32-bit program)";
	case CLOCK_PATCH_GONE:
		return "it is gone";
	default:
		return "it came to life a moment ago";
	}
}

/* May its entries not be written now? A thread would stumble over them. */
static bool entries_in_use(const struct vdso_process *p, const struct vdso_image *own)
{
	_cleanup_free_ pid_t *tids = NULL;
	size_t n;

	if (proc_threads(p->pid, &tids, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct vdso_place place = vdso_place_of(p, tids[i]);

		if (vdso_needs_entries(&place, own))
			return true;
	}
	return false;
}

/* Threads that were seen outside of the block, into which there is no way any more. */
struct left {
	pid_t *tids;
	size_t count, room;
};

static void left_done(struct left *l)
{
	free(l->tids);
}

static bool left_has(const struct left *l, pid_t tid)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->tids[i] == tid)
			return true;
	return false;
}

/* Without memory it is looked at again. */
static void left_add(struct left *l, pid_t tid)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		pid_t *more = reallocarray(l->tids, room, sizeof(*more));

		if (!more)
			return;
		l->tids = more;
		l->room = room;
	}
	l->tids[l->count++] = tid;
}

/* Is one of its threads still in the block, as far as was seen? */
static bool block_in_use(const struct vdso_process *p, const struct vdso_image *own, struct left *left)
{
	_cleanup_free_ pid_t *tids = NULL;
	bool in_use = false;
	size_t n;

	if (proc_threads(p->pid, &tids, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct vdso_place place;

		if (left_has(left, tids[i]))
			continue;
		place = vdso_place_of(p, tids[i]);
		if (vdso_needs_block(p, &place, own))
			in_use = true;
		else
			left_add(left, tids[i]);
	}
	return in_use;
}

struct opened {
	struct vdso_process *list;
	size_t count;
};

static void opened_done(struct opened *o)
{
	for (size_t i = 0; i < o->count; i++)
		vdso_close(&o->list[i]);
	free(o->list);
}

/* The block before what jumps to it: whatever ends us in between leaves nothing that acts. */
static int put_one(struct vdso_process *p, const struct vdso_image *own,
	const struct vdso_patch *patch, struct err **err)
{
	int r = vdso_make(p, patch->bytes, patch->block, patch->block + patch->block_size, err);

	return r < 0 ? r : vdso_make(p, patch->bytes, 0, own->padding, err);
}

struct work {
	const struct ptrace_held *held;
	const struct proc_id *ids;
	size_t count;
	const struct vdso_image *own;
	uint64_t token;
	const struct vdso_patch *patch;
	size_t *ret_count;
	int (*step)(struct vdso_process *p, const struct vdso_image *own, struct left *left,
		struct err **err);
	struct left *left;
	struct err **err;
};

/* In the tracer's thread: there are kernels that let nobody else write. */
static int put_held(void *data)
{
	const struct work *w = data;
	_cleanup_(opened_done) struct opened o = {.list = calloc(w->count + 1, sizeof(*o.list))};
	size_t had = 0, gone = 0;

	if (!o.list)
		return err_errno(w->err, ENOMEM, "skew clocks");
	for (size_t i = 0; i < w->count; i++) {
		_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
		pid_t pid = w->held[i].id.pid;
		enum clock_patch_state s = process_open(pid, w->own, w->token, &p);

		if (s == CLOCK_PATCH_OTHER)
			return err_set(w->err, EBUSY, "process %d: %s", pid, clock_patch_reason(s));
		had += s == CLOCK_PATCH_OURS;
		if (s != CLOCK_PATCH_NONE)
			continue;
		if (entries_in_use(&p, w->own))
			return err_set(w->err, EAGAIN, "process %d reads a clock", pid);
		o.list[o.count++] = p;
		p = (struct vdso_process){.fd = -1};
	}
	for (size_t i = 0; i < o.count; i++) {
		int r = put_one(&o.list[i], w->own, w->patch, w->err);

		if (r < 0 && r != -ESRCH)
			return r;
		gone += r == -ESRCH;
	}
	*w->ret_count = had + o.count - gone;
	return 0;
}

int clock_patch_put(struct ptrace_hold *hold, const struct vdso_image *own, const struct vdso_patch *patch,
	uint64_t token, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct ptrace_held *held = NULL;
	struct work w = {.own = own, .patch = patch, .token = token, .ret_count = ret_count, .err = err};
	int r;

	r = ptrace_hold_list(hold, &held, &w.count, err);
	w.held = held;
	return r < 0 ? r : ptrace_hold_call(hold, put_held, &w);
}

/* Of another fault of this agent (proc-freeze, a disk fault's gate); NULL: none. */
static struct ptrace_hold *other_hold(pid_t pid)
{
	pid_t tracer;

	return proc_tracer(pid, &tracer, NULL) >= 0 && tracer ? ptrace_hold_find(tracer) : NULL;
}

struct ending {
	struct vdso_process *process;
	size_t block;
	struct err **err;
};

static int end_held(void *data)
{
	const struct ending *e = data;

	return vdso_block_end(e->process, e->block, e->err);
}

/* Its threads run on; where only a tracer may write, they are seized and not stopped. */
static int end_skew(struct vdso_process *p, size_t block, struct err **err)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *hold = NULL;
	_cleanup_err_ struct err *why = NULL;
	struct ending e = {p, block, err};
	struct ptrace_hold *other;
	struct proc_id id;
	size_t n_new;
	int r;

	r = vdso_block_end(p, block, &why);
	if (r != -EACCES)
		return r < 0 ? err_set(err, r, "%s", err_text(why)) : 0;
	/* Asked once: the process may end at any time, and then it has none. */
	other = other_hold(p->pid);
	if (other)
		return ptrace_hold_call(other, end_held, &e);
	r = proc_identify(p->pid, &id, err);
	if (r >= 0)
		r = ptrace_hold_new(&hold, err);
	if (r >= 0)
		r = ptrace_hold_seize(hold, &id, 1, &n_new, err);
	return r < 0 ? r : ptrace_hold_call(hold, end_held, &e);
}

/* Every process of the node with this token's patch; ends its skew where it goes on. */
static int find_all(const struct vdso_image *own, uint64_t token, struct proc_id **ret,
	size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_id *found = NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n, count = 0;
	int r;

	r = proc_pids(&pids, &n, err);
	if (r < 0)
		return r;
	found = calloc(n + 1, sizeof(*found));
	if (!found)
		return err_errno(err, ENOMEM, "look for skewed clocks");
	for (size_t i = 0; i < n; i++) {
		_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
		struct vdso_block block;

		if (pids[i] == getpid() ||
		    process_open(pids[i], own, token, &p) != CLOCK_PATCH_OURS)
			continue;
		if (vdso_block_of(&p, own->padding, &block) && block.length_ns > 0)
			r = end_skew(&p, own->padding, err);
		if (r < 0 && r != -ESRCH)
			return r;
		if (r >= 0 && proc_identify(pids[i], &found[count], NULL) == 0)
			count++;
		r = 0;
	}
	*ret = steal_ptr(found);
	*ret_count = count;
	return 0;
}

/* No way in any more; what is inside finds its way out. */
static int restore_entries(struct vdso_process *p, const struct vdso_image *own, struct left *left,
	struct err **err)
{
	(void)left;
	if (entries_in_use(p, own))
		return err_set(err, EAGAIN, "process %d reads a clock", p->pid);
	return vdso_make(p, own->bytes, 0, own->padding, err);
}

/* The token goes last. */
static int restore_block(struct vdso_process *p, const struct vdso_image *own, struct left *left,
	struct err **err)
{
	size_t data = own->padding + sizeof(struct vdso_block);
	int r;

	if (block_in_use(p, own, left))
		return err_set(err, EAGAIN, "process %d reads a clock", p->pid);
	r = vdso_make(p, own->bytes, data, own->size, err);
	return r < 0 ? r : vdso_make(p, own->bytes, own->padding, data, err);
}

/* One step on each of them, in the tracer's thread. -EAGAIN: some are left. */
static int step_held(void *data)
{
	const struct work *w = data;
	bool again = false;

	for (size_t i = 0; i < w->count; i++) {
		_cleanup_(vdso_close) struct vdso_process p = {.fd = -1};
		int r;

		if (process_open(w->ids[i].pid, w->own, w->token, &p) != CLOCK_PATCH_OURS)
			continue;
		r = w->step(&p, w->own, w->left, w->err);
		again |= r == -EAGAIN;
		if (r < 0 && r != -ESRCH && r != -EAGAIN)
			return r;
	}
	return again ? -EAGAIN : 0;
}

/* Under one stop: of the hold that has them, or of one for this alone. */
static int step_group(struct work *w, struct ptrace_hold *other)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *own = NULL;
	size_t n_new, running;
	int r;

	if (other) {
		ptrace_hold_pause(other, PAUSE_NS);
		r = ptrace_hold_call(other, step_held, w);
		ptrace_hold_resume(other);
		return r;
	}
	r = ptrace_hold_new(&own, w->err);
	if (r >= 0)
		r = ptrace_hold_seize(own, w->ids, w->count, &n_new, w->err);
	if (r >= 0)
		r = ptrace_hold_stop(own, STOP_WAIT_NS, &running);
	return r < 0 ? r : ptrace_hold_call(own, step_held, w);
}

/* A process has one tracer: those that have the same one take the step together. */
static int step_once(const struct work *w)
{
	_cleanup_free_ struct ptrace_hold **holds = calloc(w->count + 1, sizeof(*holds));
	_cleanup_free_ struct proc_id *group = calloc(w->count + 1, sizeof(*group));
	struct work part = *w;
	bool again = false;

	if (!holds || !group)
		return err_errno(w->err, ENOMEM, "give clocks back");
	for (size_t i = 0; i < w->count; i++)
		holds[i] = other_hold(w->ids[i].pid);
	part.ids = group;
	for (size_t i = 0; i < w->count; i++) {
		bool done = false;
		int r;

		for (size_t k = 0; k < i; k++)
			done |= holds[k] == holds[i];
		if (done)
			continue;
		part.count = 0;
		for (size_t k = i; k < w->count; k++)
			if (holds[k] == holds[i])
				group[part.count++] = w->ids[k];
		r = step_group(&part, holds[i]);
		again |= r == -EAGAIN;
		if (r < 0 && r != -EAGAIN)
			return r;
	}
	return again ? -EAGAIN : 0;
}

static int step_all(struct work *w)
{
	_cleanup_(left_done) struct left left = {0};
	uint64_t end = now_ns() + REMOVE_NS;
	int r;

	w->left = &left;
	while ((r = step_once(w)) == -EAGAIN && now_ns() < end)
		usleep(AGAIN_US);
	return r == -EAGAIN ? err_set(w->err, EBUSY, "%s",
				      w->err ? err_text(*w->err) : "a clock is being read") : r;
}

int clock_patch_remove(const struct vdso_image *own, uint64_t token, struct err **err)
{
	for (int round = 0; round < ROUNDS; round++) {
		_cleanup_free_ struct proc_id *ids = NULL;
		struct work w = {.own = own, .token = token, .step = restore_entries, .err = err};
		int r;

		r = find_all(own, token, &ids, &w.count, err);
		if (r < 0 || w.count == 0)
			return r;
		w.ids = ids;
		r = step_all(&w);
		if (r < 0)
			return r;
		usleep(LEAVE_US);
		w.step = restore_block;
		r = step_all(&w);
		if (r < 0)
			return r;
	}
	return err_set(err, EBUSY, "processes with a skewed clock were born in each of %d looks", ROUNDS);
}

int clock_patch_find(const struct vdso_image *own, uint64_t token, pid_t *ret, struct err **err)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	r = proc_pids(&pids, &n, err);
	if (r < 0)
		return r;
	*ret = 0;
	for (size_t i = 0; i < n && !*ret; i++)
		if (pids[i] != getpid() &&
		    clock_patch_look(pids[i], own, token) == CLOCK_PATCH_OURS)
			*ret = pids[i];
	return 0;
}
