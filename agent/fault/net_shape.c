#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "fault/detour_fault.h"
#include "fault/net_filters.h"
#include "fault/net_shape_evidence.h"
#include "fault/net_shape_record.h"

#define FAULT "net-shape"
#define LIMIT_DEFAULT	(64ULL << 20)
#define LIMIT_RATE_MIN	(256ULL << 10)
#define LIMIT_RATE_NS	(250 * NS_PER_MS)

enum { WAY_BOTH, WAY_IN, WAY_OUT };	/* choices of "direction" (core/catalogue/net_params.h) */

DEFINE_CLEANUP(struct detour_fault, detour_fault_free)

/* With a rate: the queue of a link, 250 ms, beside what the delay itself holds. */
static uint64_t limit_of(const struct delay_shape *s)
{
	unsigned __int128 bytes;

	if (!s->rate_bits_per_s)
		return LIMIT_DEFAULT;
	bytes = (unsigned __int128)(s->delay_ns + 4 * s->jitter_ns + LIMIT_RATE_NS) *
		s->rate_bits_per_s / 8 / NS_PER_S + s->burst_bytes;
	if (bytes < LIMIT_RATE_MIN)
		return LIMIT_RATE_MIN;
	return bytes > LIMIT_DEFAULT ? LIMIT_DEFAULT : (uint64_t)bytes;
}

static int shape_from_params(const struct params *p, struct delay_shape *ret, struct err **err)
{
	struct delay_shape s = {
		.delay_ns = params_number(p, "delay"),
		.jitter_ns = params_number(p, "jitter"),
		.correlation_ppm = (uint32_t)params_number(p, "correlation"),
		.distribution = (enum delay_distribution)params_number(p, "distribution"),
		.loss_model = (enum loss_model)params_number(p, "loss-model"),
		.loss_ppm = (uint32_t)params_number(p, "loss"),
		.loss_correlation_ppm = (uint32_t)params_number(p, "loss-correlation"),
		.ge_p_ppm = (uint32_t)params_number(p, "ge-p"),
		.ge_r_ppm = (uint32_t)params_number(p, "ge-r"),
		.ge_loss_bad_ppm = (uint32_t)params_number(p, "ge-loss-bad"),
		.ge_loss_good_ppm = (uint32_t)params_number(p, "ge-loss-good"),
		.duplicate_ppm = (uint32_t)params_number(p, "duplicate"),
		.reorder_ppm = (uint32_t)params_number(p, "reorder"),
		.corrupt_ppm = (uint32_t)params_number(p, "corrupt"),
		.corrupt_mode = (enum corrupt_mode)params_number(p, "corrupt-mode"),
		.rate_bits_per_s = params_number(p, "rate"),
		.burst_bytes = params_number(p, "burst"),
		.limit_bytes = params_number(p, "limit"),
		.seed = params_number(p, "seed"),
	};

	if (!s.limit_bytes)
		s.limit_bytes = limit_of(&s);
	if (!params_is_set(p, "seed")) {
		uint32_t seed;

		if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
			return err_errno(err, errno, "choose a seed");
		s.seed = seed;
	}
	*ret = s;
	return 0;
}

static int net_shape_arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(detour_fault_freep) struct detour_fault *s = calloc(1, sizeof(*s));
	uint64_t way = params_number(f->params, "direction");
	const struct detour_sides sides = {.in = way != WAY_OUT, .out = way != WAY_IN};
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm " FAULT);
	s->target.netns_fd = -1;
	r = shape_from_params(f->params, &s->shape, err);
	if (r < 0)
		return r;
	if (s->shape.corrupt_mode == CORRUPT_PAYLOAD)
		r = net_rules_for_postgres(f->params, f->instance->port, &s->rules, err);
	else
		r = net_rules_from_params(f->params, &s->rules, err);
	if (r == 0)
		r = detour_fault_arm(s, f, &sides, ret, err);
	if (r == 0)
		f->state = steal_ptr(s);
	return r;
}

static int net_shape_observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct detour_fault *s = f->state;

	return net_shape_evidence(s->detour, &s->rules, &s->shape, ret, err);
}

const struct fault_driver driver_net_shape = {
	.spec = &fault_net_shape,
	.arm = net_shape_arm,
	.observe = net_shape_observe,
	DETOUR_FAULT_OPERATIONS,
};
