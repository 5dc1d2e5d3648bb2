/*
 * cpu-throttle: the CFS quota of the instance's own control group (v2 cpu.max, v1 cpu.cfs_quota_us;
 * Documentation/scheduler/sched-bwc.rst). Journaled: the earlier value is written back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/cpu_quota.h"
#include "fault/group_fault.h"
#include "kernel/cgroup.h"

#define FAULT "cpu-throttle"

struct throttle {
	struct group_fault base;
	uint64_t quota_us, period_us;
	struct cpu_stat {
		uint64_t throttled, periods, throttled_ns;
	} before;
};

static void throttle_free(struct throttle *x)
{
	group_fault_free(&x->base);
}
DEFINE_CLEANUP(struct throttle, throttle_free)

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	(void)node;
	(void)err;
	return group_fault_probe("cpu", "cpu.max", "cpu.cfs_quota_us", ret);
}

/* cpu.stat: "nr_periods 3" and so on, the same in both versions but for the unit of time. */
static int read_stat(const struct throttle *x, struct cpu_stat *ret, struct err **err)
{
	static const char *const keys[] = {"nr_throttled", "nr_periods", "throttled_usec", "throttled_time"};
	uint64_t values[ELEMENTS(keys)] = {0};

	for (size_t i = 0; i < ELEMENTS(keys); i++) {
		_cleanup_free_ char *text = NULL;
		int r = group_setting_read(x->base.group.folder, "cpu.stat", keys[i], "0", &text, err);

		if (r < 0)
			return r;
		values[i] = strtoull(text, NULL, 10);
	}
	*ret = (struct cpu_stat){values[0], values[1], values[3] + values[2] * NS_PER_US};
	return 0;
}

/* The folder begins with the hierarchy's mount point, and ends with the path unless less of it is shown. */
static size_t root_of(const char *folder, const char *path)
{
	size_t whole = strlen(folder), below = strlen(path);

	return whole > below ? whole - below : 0;
}

static void note_cpuset(struct cpu_quota *q, const struct instance_info *i, bool v2)
{
	_cleanup_free_ char *path = NULL, *folder = NULL;
	const char *controller = v2 ? NULL : "cpuset";
	uint64_t n;

	if (cgroup_of_controller(i->pid, controller, &path, NULL) < 0 ||
	    cgroup_folder(controller, path, &folder, NULL) < 0)
		return;
	n = cpu_set_count(folder, root_of(folder, path), v2);
	if (n == 0 || n >= q->processors)
		return;
	q->processors = n;
	q->cpuset = true;
}

static int choose_quota(struct throttle *x, const struct fault *f, struct err **err)
{
	const struct group_target *g = &x->base.group;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct cpu_limit limit = {0};
	struct cpu_quota q = {
		.ppm = params_number(f->params, "quota"),
		.processors = processors > 0 ? (uint64_t)processors : 1,
	};
	int r;

	r = cpu_limit_find(g->folder, root_of(g->folder, g->path), g->v2, &limit, err);
	if (r < 0)
		return r;
	note_cpuset(&q, f->instance, true);
	note_cpuset(&q, f->instance, false);
	q.now_us = limit.quota_us;
	q.period_us = x->period_us = limit.period_us;
	q.group = limit.folder;
	r = cpu_quota_choose(&q, &x->quota_us, err);
	free(limit.folder);
	return r;
}

static int prepare(struct throttle *x, const struct fault *f, struct err **err)
{
	const char *file;
	char wanted[64];
	int r;

	r = group_target_find(f->instance, "cpu", "cpu.max", "cpu.cfs_quota_us", &x->base.group, err);
	if (r < 0)
		return r;
	file = x->base.group.v2 ? "cpu.max" : "cpu.cfs_quota_us";
	r = choose_quota(x, f, err);
	if (r >= 0)
		r = group_settings_open(x->base.group.folder, file, &x->base.settings, err);
	if (r < 0)
		return r;
	if (x->base.group.v2)
		snprintf(wanted, sizeof(wanted), "%" PRIu64 " %" PRIu64, x->quota_us, x->period_us);
	else
		snprintf(wanted, sizeof(wanted), "%" PRIu64, x->quota_us);
	return group_settings_add(&x->base.settings, file, NULL, NULL, wanted, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(throttle_freep) struct throttle *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->base.settings.lock_fd = -1;
	r = prepare(x, f, err);
	if (r < 0)
		return r;
	group_fault_armed(&steal_ptr(x)->base, f, ret);
	return 0;
}

static int fire(struct fault *f, struct err **err)
{
	struct throttle *x = f->state;
	int r;

	r = read_stat(x, &x->before, err);
	if (r < 0)
		return r == -ENOENT ? err_wrap(err, ESTALE, "the control group is gone") : r;
	return group_settings_fire(&x->base.settings, f, err);
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct throttle *x = f->state;
	struct cpu_stat now;
	int r;

	r = read_stat(x, &now, err);
	if (r < 0)
		return r;
	ret->hits = now.throttled - x->before.throttled;
	ret->detail = json_object();
	json_add_string(ret->detail, "group", x->base.group.folder);
	json_add_uint(ret->detail, "quota_us", x->quota_us);
	json_add_uint(ret->detail, "period_us", x->period_us);
	json_add_uint(ret->detail, "periods", now.periods - x->before.periods);
	json_add_uint(ret->detail, "throttled_periods", now.throttled - x->before.throttled);
	json_add_ms(ret->detail, "throttled_ms", now.throttled_ns - x->before.throttled_ns);
	return 0;
}

const struct fault_driver driver_cpu_throttle = {
	.spec = &fault_cpu_throttle,
	GROUP_FAULT_OPERATIONS,
};
