/*
 * disk-throttle: limits of the instance's own control group for the disk below one of its volumes
 * (v2 io.max, Documentation/admin-guide/cgroup-v2.rst; v1 blkio.throttle.*, cgroup-v1/
 * blkio-controller.rst). Journaled: the earlier values are written back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "fault/group_fault.h"
#include "fault/volume_target.h"

#define FAULT	"disk-throttle"
#define V2_NONE "rbps=max wbps=max riops=max wiops=max"

enum way { READ_BYTES, WRITE_BYTES, READ_OPERATIONS, WRITE_OPERATIONS, WAY_MAX };

static const struct {
	const char *param, *v2, *v1;
} ways[WAY_MAX] = {
	[READ_BYTES] = {"read-bytes", "rbps", "blkio.throttle.read_bps_device"},
	[WRITE_BYTES] = {"write-bytes", "wbps", "blkio.throttle.write_bps_device"},
	[READ_OPERATIONS] = {"read-operations", "riops", "blkio.throttle.read_iops_device"},
	[WRITE_OPERATIONS] = {"write-operations", "wiops", "blkio.throttle.write_iops_device"},
};

struct throttle {
	struct group_fault base;
	char device[32];	/* "7:0" */
	uint64_t wanted[WAY_MAX];	/* 0: not limited */
	uint64_t before[WAY_MAX];	/* done so far when it was fired */
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
	return group_fault_probe("blkio", "io.max", ways[READ_BYTES].v1, ret);
}

/* "rbps=max wbps=1048576 ...": the number after KEY=, UINT64_MAX for max or none. */
static uint64_t v2_number(const char *line, const char *key, uint64_t none)
{
	size_t n = strlen(key);

	for (const char *p = line; p; p = strchr(p, ' '), p = p ? p + 1 : NULL)
		if (strncmp(p, key, n) == 0 && p[n] == '=')
			return p[n + 1] == 'm' ? none : strtoull(p + n + 1, NULL, 10);
	return none;
}

static int refuse_looser(const struct throttle *x, enum way w, uint64_t now, struct err **err)
{
	if (now == 0 || now > x->wanted[w])
		return 0;
	return err_set(err, EINVAL, "%s: the group has a limit of %" PRIu64 " a second already, which is stricter",
		ways[w].param, now);
}

static int add_v2(struct throttle *x, struct err **err)
{
	char wanted[128] = "";
	int r;

	for (int w = 0; w < WAY_MAX; w++)
		if (x->wanted[w])
			snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "%s%s=%" PRIu64,
				wanted[0] ? " " : "", ways[w].v2, x->wanted[w]);
	r = group_settings_open(x->base.group.folder, "io.max", &x->base.settings, err);
	if (r >= 0)
		r = group_settings_add(&x->base.settings, "io.max", x->device, V2_NONE, wanted, err);
	for (int w = 0; w < WAY_MAX && r >= 0; w++)
		if (x->wanted[w])
			r = refuse_looser(x, (enum way)w,
				v2_number(x->base.settings.list[0].before, ways[w].v2, 0), err);
	return r;
}

static int add_v1(struct throttle *x, struct err **err)
{
	int r;

	r = group_settings_open(x->base.group.folder, ways[READ_BYTES].v1, &x->base.settings, err);
	for (int w = 0; w < WAY_MAX && r >= 0; w++) {
		char wanted[24];

		if (!x->wanted[w])
			continue;
		snprintf(wanted, sizeof(wanted), "%" PRIu64, x->wanted[w]);
		r = group_settings_add(&x->base.settings, ways[w].v1, x->device, "0", wanted, err);
		if (r >= 0)
			r = refuse_looser(x, (enum way)w,
				strtoull(x->base.settings.list[x->base.settings.count - 1].before, NULL, 10), err);
	}
	return r;
}

static int find_device(struct throttle *x, const struct fault *f, struct err **err)
{
	_cleanup_(volume_done) struct volume v = {.dir_fd = -1};
	dev_t dev;
	int r;

	r = volume_target_open(f->instance, (enum volume_which)params_number(f->params, "volume"), &v, err);
	if (r >= 0)
		r = volume_device(&v, &dev, err);
	if (r >= 0)
		snprintf(x->device, sizeof(x->device), "%u:%u", major(dev), minor(dev));
	return r;
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(throttle_freep) struct throttle *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->base.settings.lock_fd = -1;
	for (int w = 0; w < WAY_MAX; w++)
		x->wanted[w] = params_number(f->params, ways[w].param);
	r = group_target_find(f->instance, "blkio", "io.max", ways[READ_BYTES].v1, &x->base.group, err);
	if (r >= 0)
		r = find_device(x, f, err);
	if (r >= 0)
		r = x->base.group.v2 ? add_v2(x, err) : add_v1(x, err);
	if (r < 0)
		return r;
	group_fault_armed(&steal_ptr(x)->base, f, ret);
	return 0;
}

/* "7:0 Read 4096" in v1, one line each; a group that did nothing yet has none. */
static int read_v1(const struct throttle *x, uint64_t ret[static WAY_MAX], struct err **err)
{
	static const char *const words[WAY_MAX] = {"Read", "Write", "Read", "Write"};
	static const char *const files[WAY_MAX] = {"blkio.throttle.io_service_bytes",
		"blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced", "blkio.throttle.io_serviced"};

	for (int w = 0; w < WAY_MAX; w++) {
		_cleanup_free_ char *text = NULL;
		char key[48];
		int r;

		snprintf(key, sizeof(key), "%s %s", x->device, words[w]);
		r = group_setting_read(x->base.group.folder, files[w], key, "0", &text, err);
		if (r < 0)
			return r;
		ret[w] = strtoull(text, NULL, 10);
	}
	return 0;
}

static int read_done(const struct throttle *x, uint64_t ret[static WAY_MAX], struct err **err)
{
	static const char *const keys[WAY_MAX] = {"rbytes", "wbytes", "rios", "wios"};
	_cleanup_free_ char *text = NULL;
	int r;

	if (!x->base.group.v2)
		return read_v1(x, ret, err);
	r = group_setting_read(x->base.group.folder, "io.stat", x->device, "", &text, err);
	for (int w = 0; w < WAY_MAX && r >= 0; w++)
		ret[w] = v2_number(text, keys[w], 0);
	return r;
}

static int fire(struct fault *f, struct err **err)
{
	struct throttle *x = f->state;
	int r;

	r = read_done(x, x->before, err);
	if (r < 0)
		return r == -ENOENT ? err_wrap(err, ESTALE, "the control group is gone") : r;
	return group_settings_fire(&x->base.settings, f, err);
}

/* Hits: operations of a limited kind that went through the limit. */
static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct throttle *x = f->state;
	uint64_t now[WAY_MAX];
	cJSON *limits, *done;
	int r;

	r = read_done(x, now, err);
	if (r < 0)
		return r;
	ret->detail = json_object();
	limits = json_object();
	done = json_object();
	json_add_string(ret->detail, "group", x->base.group.folder);
	json_add_string(ret->detail, "device", x->device);
	json_add_item(ret->detail, "limits", limits);
	json_add_item(ret->detail, "done", done);
	for (int w = 0; w < WAY_MAX; w++) {
		if (x->wanted[w])
			json_add_uint(limits, ways[w].param, x->wanted[w]);
		json_add_uint(done, ways[w].param, now[w] - x->before[w]);
	}
	if (x->wanted[READ_BYTES] || x->wanted[READ_OPERATIONS])
		ret->hits += now[READ_OPERATIONS] - x->before[READ_OPERATIONS];
	if (x->wanted[WRITE_BYTES] || x->wanted[WRITE_OPERATIONS])
		ret->hits += now[WRITE_OPERATIONS] - x->before[WRITE_OPERATIONS];
	return 0;
}

const struct fault_driver driver_disk_throttle = {
	.spec = &fault_disk_throttle,
	GROUP_FAULT_OPERATIONS,
};
