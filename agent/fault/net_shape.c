#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "fault/fault.h"
#include "fault/net_filters.h"
#include "fault/net_shape_detour.h"
#include "fault/net_shape_evidence.h"
#include "fault/net_shape_record.h"
#include "fault/net_target.h"

#define FAULT "net-shape"
#define LIMIT_DEFAULT	(64ULL << 20)
#define LIMIT_RATE_MIN	(256ULL << 10)
#define LIMIT_RATE_NS	(250 * NS_PER_MS)

enum { WAY_BOTH, WAY_IN, WAY_OUT };	/* choices of "direction" (core/catalogue/net_params.h) */

struct shape_state {
	struct net_target target;
	struct net_rules rules;
	struct delay_shape shape;
	uint32_t position;
	struct detour *detour;
};

static void state_free(struct shape_state *s)
{
	if (!s)
		return;
	detour_close(s->detour);
	net_position_drop(s->position);
	net_rules_done(&s->rules);
	net_target_done(&s->target);
	free(s);
}
DEFINE_CLEANUP(struct shape_state, state_free)

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
	_cleanup_(state_freep) struct shape_state *s = calloc(1, sizeof(*s));
	uint64_t way = params_number(f->params, "direction");
	enum net_hook hook = NET_HOOK_TCX;
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm " FAULT);
	s->target.netns_fd = -1;
	r = net_target_open(f->instance, &s->target, err);
	if (r == 0)
		r = net_hook_choose(f->node, &hook, err);
	if (r < 0)
		return r;
	r = shape_from_params(f->params, &s->shape, err);
	if (r < 0)
		return r;
	if (s->shape.corrupt_mode == CORRUPT_PAYLOAD)
		r = net_rules_for_postgres(f->params, f->instance->port, &s->rules, err);
	else
		r = net_rules_from_params(f->params, &s->rules, err);
	if (r < 0)
		return r;
	r = detour_position_take(hook, &s->target, &s->position, err);
	if (r < 0)
		return r;
	r = detour_open(&(struct detour_plan){
		.node = f->node,
		.fault = FAULT,
		.experiment = f->experiment,
		.hook = hook,
		.netns_fd = s->target.netns_fd,
		.links = s->target.links,
		.n_links = s->target.n_links,
		.in = way != WAY_OUT,
		.out = way != WAY_IN,
		.position = s->position,
		.rules = &s->rules,
		.shape = &s->shape,
	}, &s->detour, err);
	if (r < 0)
		return r;
	r = detour_record(f, &s->target, s->detour, &ret->record, err);
	if (r < 0)
		return r;
	f->mechanism = detour_mechanism(hook);
	f->lifetime = net_hook_lifetime(hook);
	f->state = steal_ptr(s);
	return 0;
}

static int net_shape_place(struct fault *f, struct undo *u, struct err **err)
{
	struct shape_state *s = f->state;

	return net_attach_place(s->detour->takes, u->record, err);
}

static int net_shape_fire(struct fault *f, struct err **err)
{
	struct shape_state *s = f->state;

	(void)err;
	node_point(f->node, FAULT, "before-fire");
	detour_fire(s->detour, f->deadline_boot_ns);
	node_point(f->node, FAULT, "fired");
	return 0;
}

static int net_shape_observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct shape_state *s = f->state;

	return net_shape_evidence(s->detour, &s->rules, &s->shape, ret, err);
}

static void net_shape_release(struct fault *f)
{
	struct shape_state *s = f->state;

	f->state = NULL;
	node_point(f->node, FAULT, "before-release");
	state_free(s);
	node_point(f->node, FAULT, "released");
}

const struct fault_driver driver_net_shape = {
	.spec = &fault_net_shape,
	.probe = detour_probe,
	.arm = net_shape_arm,
	.place = net_shape_place,
	.fire = net_shape_fire,
	.observe = net_shape_observe,
	.release = net_shape_release,
	.revert = net_filters_revert,
	.verify_clean = detour_verify_clean,
};
