/*
 * mem-stress: a worker in the instance's control groups that takes memory; with oom until the kernel
 * kills a process of the instance. Held: the memory is the worker's, and it ends with the agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/group_setting.h"
#include "fault/mem_bounds.h"
#include "fault/stress.h"
#include "hold/load.h"
#include "kernel/proc.h"

#define FAULT	      "mem-stress"
#define MARGIN_LEAST  (8UL << 20)
#define V1_NO_LIMIT   (1ULL << 60)
#define FOLDERS_MAX   32

static const struct stress_controller controller = {"memory", "memory.max", "memory.limit_in_bytes", true};

struct mem {
	struct stress stress;
	struct load_memory load;
	struct mem_claim claim;
	int fd;			/* for the worker: load.h */
	uint64_t kills_before;
};

static void mem_done(struct stress *s)
{
	struct mem *x = (struct mem *)s;

	mem_claim_drop(&x->claim);
	closep(&x->fd);
}

/* One that has ended, or has given back, takes no more. */
static uint64_t held_of_claim(const void *owner)
{
	const struct mem *x = owner;
	const struct worker_page *page = workers_page(x->stress.workers, 0);

	if (workers_look(x->stress.workers, 0, &(int){0}) != WORKER_RUNS ||
	    atomic_load(&page->flags) & LOAD_MEMORY_KILLED)
		return x->claim.bytes;
	return atomic_load(&page->bytes);
}

static void mem_free(struct mem *x)
{
	stress_free(&x->stress);
}
DEFINE_CLEANUP(struct mem, mem_free)

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *why = NULL;
	const char *mechanism;
	int r;

	(void)node;
	r = group_controller_probe(controller.name, controller.v2_file, controller.v1_file, &mechanism, &why);
	if (r >= 0)
		return stress_probe(ret, err);
	ret->reason = strdup(err_text(why));
	return 0;
}

static int read_limit(const char *folder, bool v2, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	uint64_t n;
	int r;

	r = group_setting_read(folder, v2 ? controller.v2_file : controller.v1_file, NULL, NULL, &text, err);
	if (r < 0)
		return r;
	n = text[0] == 'm' ? UINT64_MAX : strtoull(text, NULL, 10);
	*ret = n >= V1_NO_LIMIT ? UINT64_MAX : n;
	return 0;
}

/* What the kernel cannot take back when it gets narrow, in a group and those below it: hold/load.c. */
static uint64_t group_uses(const char *folder, bool v2)
{
	static const char *const words[2][5] = {{"total_rss", "total_shmem"},
		{"anon", "shmem", "slab", "kernel_stack", "pagetables"}};
	uint64_t sum = 0;

	for (size_t i = 0; i < ELEMENTS(words[v2]) && words[v2][i]; i++) {
		_cleanup_free_ char *text = NULL;

		if (group_setting_read(folder, "memory.stat", words[v2][i], "0", &text, NULL) >= 0)
			sum += strtoull(text, NULL, 10);
	}
	return sum;
}

static void note_limit(struct mem_bounds *b, uint64_t *limit_bytes, const char *folder, bool v2,
	uint64_t limit)
{
	uint64_t used, room;

	if (limit == UINT64_MAX)
		return;
	used = group_uses(folder, v2);
	room = limit > used ? limit - used : 0;
	if (limit < *limit_bytes)
		*limit_bytes = limit;
	if (!b->has_limit || room < b->room_bytes)
		b->room_bytes = room;
	b->has_limit = true;
}

/* A pod's limit may be on a group above the container's: the least counts. */
static int find_limit(const struct group_target *g, struct mem_bounds *b, uint64_t *limit_bytes,
	struct err **err)
{
	_cleanup_free_ char *folder = strdup(g->folder);
	size_t above = strlen(g->folder) - strlen(g->path);
	uint64_t limit;
	int r;

	if (!folder)
		return err_errno(err, ENOMEM, "find the memory limit");
	*limit_bytes = UINT64_MAX;
	r = read_limit(folder, g->v2, &limit, err);
	if (r < 0)
		return r;
	note_limit(b, limit_bytes, folder, g->v2, limit);
	for (int i = 0; i < FOLDERS_MAX; i++) {
		char *slash = strrchr(folder, '/');

		if (!slash || (size_t)(slash - folder) <= above)
			break;
		*slash = '\0';
		if (read_limit(folder, g->v2, &limit, NULL) >= 0)
			note_limit(b, limit_bytes, folder, g->v2, limit);
	}
	return 0;
}

static int node_has_left(uint64_t *ret, struct err **err)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/meminfo", "re");
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %" SCNu64 " kB", ret) == 1) {
			*ret *= 1024;
			return 0;
		}
	return err_set(err, EIO, "/proc/meminfo does not tell what is available");
}

/* As it is now. */
static int find_bounds(const struct mem *x, struct mem_bounds *ret, uint64_t *ret_limit, struct err **err)
{
	struct mem_bounds b = {0};
	int r;

	r = find_limit(&x->stress.group, &b, ret_limit, err);
	if (r >= 0)
		r = node_has_left(&b.left_bytes, err);
	if (r < 0)
		return r;
	b.left_bytes = mem_unclaimed(b.left_bytes, mem_claimed(&x->claim));
	*ret = b;
	return 0;
}

static int how_much(struct mem *x, const struct params *p, struct err **err)
{
	struct mem_bounds bounds;
	bool has_limit;
	int r;

	r = find_bounds(x, &bounds, &x->load.limit_bytes, err);
	if (r < 0)
		return r;
	has_limit = bounds.has_limit;
	x->load.oom = params_number(p, "oom");
	x->load.rate_bytes_per_s = params_number(p, "rate");
	x->load.bytes = params_number(p, "bytes");
	if (!has_limit && (x->load.oom || params_is_set(p, "percent")))
		return err_set(err, EOPNOTSUPP,
			"%s: the instance has no memory limit (%s), so there is no %s",
			params_is_set(p, "percent") ? "percent" : "oom", x->stress.group.folder,
			params_is_set(p, "percent") ? "share of it" : "running out of it");
	if (params_is_set(p, "percent"))
		x->load.bytes = (uint64_t)((unsigned __int128)x->load.limit_bytes *
					   params_number(p, "percent") / 1000000);
	/* With oom what is swapped out does not count, and it may take more than the limit to be killed. */
	x->load.bytes = mem_whole_pages(x->load.bytes, x->load.oom ? UINT64_MAX : x->load.limit_bytes);
	x->load.margin_bytes = has_limit && x->load.limit_bytes / 16 > MARGIN_LEAST ?
				       x->load.limit_bytes / 16 : MARGIN_LEAST;
	x->claim.bytes = mem_taken(x->load.bytes, &bounds);
	return mem_check(x->load.bytes, &bounds, err);
}

/* Where "oom_kill N" is: memory.events, or memory.oom_control in v1. */
static const char *kills_file(const struct mem *x)
{
	return x->stress.group.v2 ? "memory.events" : "memory.oom_control";
}

static int read_kills(const struct mem *x, uint64_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = group_setting_read(x->stress.group.folder, kills_file(x), "oom_kill", "0", &text, err);
	if (r >= 0)
		*ret = strtoull(text, NULL, 10);
	return r;
}

/* v1 can be told to let processes wait for ever instead. */
static int refuse_no_killer(const struct mem *x, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (!x->load.oom || x->stress.group.v2)
		return 0;
	r = group_setting_read(x->stress.group.folder, "memory.oom_control", "oom_kill_disable", "0", &text,
		err);
	if (r >= 0 && strcmp(text, "0") != 0)
		r = err_set(err, EOPNOTSUPP, "oom: the kernel is told not to kill in %s (oom_kill_disable)",
			x->stress.group.folder);
	return r;
}

static int open_for_worker(struct mem *x, struct err **err)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s", x->stress.group.folder, x->load.oom ? kills_file(x) : "memory.stat") < 0) {
		path = NULL;
		return err_errno(err, ENOMEM, "arm " FAULT);
	}
	x->fd = open(path, O_RDONLY | O_CLOEXEC);
	return x->fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(mem_freep) struct mem *x = calloc(1, sizeof(*x));
	_cleanup_strv_ char **folders = NULL;
	struct worker_job job = {.count = 1, .run = load_memory};
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->fd = -1;
	x->stress.done = mem_done;
	r = stress_groups(&x->stress, f->instance, &controller, &folders, err);
	if (r >= 0)
		r = how_much(x, f->params, err);
	if (r >= 0)
		r = refuse_no_killer(x, err);
	if (r >= 0)
		r = read_kills(x, &x->kills_before, err);
	if (r >= 0)
		r = open_for_worker(x, err);
	if (r < 0)
		return r;
	job.fd = x->fd;
	job.argument = &x->load;
	/* Without oom the worker goes first if it comes to that; with oom never. */
	job.oom_score_adj = x->load.oom ? "-1000" : "1000";
	r = stress_start(&x->stress, f, &job, folders, ret, err);
	if (r < 0)
		return r;
	closep(&x->fd);
	x->fd = -1;
	x->claim.held = held_of_claim;
	x->claim.owner = x;
	mem_claim_add(&x->claim);
	f->state = steal_ptr(x);
	f->mechanism = "worker process";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

/* The node may have less than when it was armed: nobody has been held back since. */
static int fire(struct fault *f, struct err **err)
{
	struct mem *x = f->state;
	struct mem_bounds bounds;
	uint64_t limit;
	int r;

	r = find_bounds(x, &bounds, &limit, err);
	if (r < 0)
		return r == -ENOENT ? err_wrap(err, ESTALE, "the control group is gone") : r;
	r = mem_check(x->load.bytes, &bounds, err);
	if (r < 0)
		return err_wrap(err, r, "since it was armed");
	x->claim.bytes = mem_taken(x->load.bytes, &bounds);
	return stress_fire(f, err);
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct mem *x = f->state;
	struct stress_sum sum;
	uint64_t kills = x->kills_before;

	(void)err;
	/* A group that is gone has no file any more: what was seen is told without it. */
	read_kills(x, &kills, NULL);
	ret->detail = json_object();
	stress_observe(&x->stress, &sum, ret->detail);
	ret->hits = sum.operations;
	json_add_string(ret->detail, "group", x->stress.group.folder);
	if (x->load.limit_bytes == UINT64_MAX)
		json_add_null(ret->detail, "limit_bytes");
	else
		json_add_uint(ret->detail, "limit_bytes", x->load.limit_bytes);
	json_add_uint(ret->detail, "wanted_bytes", x->load.bytes);
	json_add_uint(ret->detail, "held_bytes", sum.running ? sum.bytes : 0);
	json_add_bool(ret->detail, "reached", sum.flags & LOAD_MEMORY_REACHED);
	json_add_bool(ret->detail, "stopped_near_limit", sum.flags & LOAD_MEMORY_NARROW);
	json_add_bool(ret->detail, "given_back_after_kill", sum.flags & LOAD_MEMORY_KILLED);
	json_add_uint(ret->detail, "oom_kills", kills >= x->kills_before ? kills - x->kills_before : 0);
	return 0;
}

const struct fault_driver driver_mem_stress = {
	.spec = &fault_mem_stress,
	.probe = probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = stress_release,
	.revert = stress_revert,
	.verify_clean = stress_verify,
	.target_is_gone = group_target_is_gone,
};
