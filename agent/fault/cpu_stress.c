/* cpu-stress: workers in the instance's control groups that use processor time. Held: they end with the
 * agent. */
#include <errno.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/stress.h"
#include "hold/load.h"

#define FAULT "cpu-stress"

static const struct stress_controller controller = {"cpu", "cpu.weight", "cpu.shares", false};

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	(void)node;
	return stress_probe(ret, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(stress_freep) struct stress *s = calloc(1, sizeof(*s));
	const struct load_cpu load = {.share_ppm = params_number(f->params, "load")};
	const struct worker_job job = {
		.count = params_number(f->params, "workers"),
		.fd = -1,
		.run = load_cpu,
		.argument = &load,
	};
	_cleanup_strv_ char **folders = NULL;
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm " FAULT);
	r = stress_groups(s, f->instance, &controller, &folders, err);
	if (r >= 0)
		r = stress_start(s, f, &job, folders, ret, err);
	if (r < 0)
		return r;
	f->state = steal_ptr(s);
	f->mechanism = "worker processes";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct stress *s = f->state;
	struct stress_sum sum;

	(void)err;
	ret->detail = json_object();
	stress_observe(s, &sum, ret->detail);
	ret->hits = sum.operations;
	json_add_string(ret->detail, "group", s->group.folder);
	json_add_ms(ret->detail, "cpu_ms", sum.cpu_ns);
	json_add_double(ret->detail, "processors",
		sum.elapsed_ns ? (double)sum.cpu_ns / (double)sum.elapsed_ns : 0);
	return 0;
}

const struct fault_driver driver_cpu_stress = {
	.spec = &fault_cpu_stress,
	STRESS_OPERATIONS,
};
