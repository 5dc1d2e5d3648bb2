/* disk-latency: an instance's reads, writes and flushes take longer (fault/disk_fault.h). */
#include "fault/disk_fault.h"

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	const struct gate_effect effect = {
		.delay = {
			.delay_ns = params_number(f->params, "delay"),
			.jitter_ns = params_number(f->params, "jitter"),
			.distribution = (enum delay_distribution)params_number(f->params, "distribution"),
		},
	};

	return disk_fault_arm(f, &effect, ret, err);
}

const struct fault_driver driver_disk_latency = {
	.spec = &fault_disk_latency,
	DISK_FAULT_OPERATIONS,
};
