/*
 * disk-stress: workers in the instance's control groups that read and write an unnamed file on one of
 * its volumes. Held: they end with the agent, and the file with them.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/stress.h"
#include "fault/volume_target.h"
#include "hold/load.h"
#include "kernel/proc.h"

#define FAULT	    "disk-stress"
#define SPARE_LEAST (32UL << 20)
#define SPARE_SHARE 20	/* or 1/20 of the volume, whichever is more */

static const struct stress_controller controller = {"blkio", "io.max", "blkio.throttle.write_bps_device", false};

struct disk {
	struct stress stress;
	struct load_disk load;
	char *source, *type;
};

static void disk_done(struct stress *s)
{
	struct disk *x = (struct disk *)s;

	free(x->source);
	free(x->type);
}

static void disk_free(struct disk *x)
{
	stress_free(&x->stress);
}
DEFINE_CLEANUP(struct disk, disk_free)

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	(void)node;
	/* Its file lies in a folder of another owner. */
	if (!proc_has_capability(CAP_DAC_OVERRIDE)) {
		ret->reason = strdup("CAP_DAC_OVERRIDE is missing");
		return 0;
	}
	return stress_probe(ret, err);
}

/* It is to be slow, not full: disk-fill is for that. */
static int refuse_full(const struct volume *v, uint64_t bytes, struct err **err)
{
	struct volume_space space;
	uint64_t spare;
	int r;

	r = volume_space(v->dir_fd, &space, err);
	if (r < 0)
		return r;
	spare = space.total_bytes / SPARE_SHARE > SPARE_LEAST ? space.total_bytes / SPARE_SHARE : SPARE_LEAST;
	if (space.free_bytes < spare || space.free_bytes - spare < bytes)
		return err_set(err, EINVAL,
			"size: %" PRIu64 " bytes are too many where %" PRIu64 " are free and %" PRIu64
			" shall stay so", bytes, space.free_bytes, spare);
	return 0;
}

static void read_params(struct disk *x, const struct params *p)
{
	uint64_t workers = params_number(p, "workers"), rate = params_number(p, "rate");

	x->load = (struct load_disk){
		.pattern = (enum load_disk_pattern)params_number(p, "pattern"),
		.size_bytes = params_number(p, "size"),
		.block_bytes = params_number(p, "block-size"),
		.rate_bytes_per_s = rate ? (rate + workers - 1) / workers : 0,
		.workers = workers,
	};
	x->load.size_bytes -= x->load.size_bytes % (x->load.block_bytes * workers);
}

static int open_file(struct disk *x, const struct fault *f, int *ret_fd, struct err **err)
{
	_cleanup_(volume_done) struct volume v = {.dir_fd = -1};
	int r;

	r = volume_target_open(f->instance, (enum volume_which)params_number(f->params, "volume"), &v, err);
	if (r >= 0)
		r = refuse_full(&v, x->load.size_bytes, err);
	if (r >= 0)
		r = volume_unnamed_file(&v, ret_fd, err);
	if (r < 0)
		return r;
	x->source = steal_ptr(v.mount.source);
	x->type = steal_ptr(v.mount.type);
	return 0;
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(disk_freep) struct disk *x = calloc(1, sizeof(*x));
	_cleanup_strv_ char **folders = NULL;
	_cleanup_close_ int fd = -1;
	struct worker_job job = {.run = load_disk};
	int r;

	if (!x)
		return err_errno(err, ENOMEM, "arm " FAULT);
	x->stress.done = disk_done;
	read_params(x, f->params);
	r = stress_groups(&x->stress, f->instance, &controller, &folders, err);
	if (r >= 0)
		r = open_file(x, f, &fd, err);
	if (r < 0)
		return r;
	job.count = x->load.workers;
	job.fd = fd;
	job.argument = &x->load;
	r = stress_start(&x->stress, f, &job, folders, ret, err);
	if (r < 0)
		return r;
	f->state = steal_ptr(x);
	f->mechanism = "worker processes";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static double per_second(uint64_t n, const struct stress_sum *sum)
{
	return sum->elapsed_ns ? (double)n * (double)NS_PER_S / (double)sum->elapsed_ns : 0;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct disk *x = f->state;
	struct stress_sum sum;

	(void)err;
	ret->detail = json_object();
	stress_observe(&x->stress, &sum, ret->detail);
	ret->hits = sum.operations;
	if (x->stress.group.folder)
		json_add_string(ret->detail, "io_group", x->stress.group.folder);
	else
		json_add_string(ret->detail, "no_io_controller", x->stress.why_no_group);
	json_add_string(ret->detail, "volume", x->source);
	json_add_string(ret->detail, "file_system", x->type);
	json_add_bool(ret->detail, "direct", sum.flags & LOAD_DISK_DIRECT);
	if (x->load.pattern == LOAD_READ)
		json_add_bool(ret->detail, "prepared", sum.flags & LOAD_DISK_PREPARED);
	json_add_uint(ret->detail, "operations", sum.operations);
	json_add_uint(ret->detail, "bytes", sum.bytes);
	json_add_uint(ret->detail, "errors", sum.errors);
	json_add_double(ret->detail, "operations_per_s", per_second(sum.operations, &sum));
	json_add_double(ret->detail, "bytes_per_s", per_second(sum.bytes, &sum));
	return 0;
}

const struct fault_driver driver_disk_stress = {
	.spec = &fault_disk_stress,
	STRESS_OPERATIONS,
};
