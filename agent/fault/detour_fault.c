#include "fault/detour_fault.h"

#include <stdlib.h>
#include "core/cleanup.h"
#include "fault/net_shape_record.h"

void detour_fault_free(struct detour_fault *s)
{
	if (!s)
		return;
	detour_close(s->detour);
	net_position_drop(s->position);
	net_rules_done(&s->rules);
	net_target_done(&s->target);
	free(s);
}

int detour_fault_arm(struct detour_fault *s, struct fault *f, const struct detour_sides *sides,
	struct undo *ret, struct err **err)
{
	enum net_hook hook = NET_HOOK_TCX;
	int r;

	r = net_target_open(f->instance, &s->target, err);
	if (r == 0)
		r = net_hook_choose(f->node, &hook, err);
	if (r == 0)
		r = detour_position_take(hook, &s->target, &s->position, err);
	if (r < 0)
		return r;
	r = detour_open(&(struct detour_plan){
		.node = f->node,
		.fault = f->driver->spec->name,
		.experiment = f->experiment,
		.hook = hook,
		.netns_fd = s->target.netns_fd,
		.links = s->target.links,
		.n_links = s->target.n_links,
		.in = sides->in,
		.out = sides->out,
		.position = s->position,
		.rules = &s->rules,
		.shape = &s->shape,
		.filter = sides->filter,
	}, &s->detour, err);
	if (r == 0)
		r = detour_record(f, &s->target, s->detour, &ret->record, err);
	if (r < 0)
		return r;
	net_target_close(&s->target);
	f->mechanism = detour_mechanism(hook);
	f->lifetime = net_hook_lifetime(hook);
	return 0;
}

int detour_fault_place(struct fault *f, struct undo *u, struct err **err)
{
	struct detour_fault *s = f->state;

	return net_attach_place(s->detour->takes, u->record, err);
}

int detour_fault_fire(struct fault *f, struct err **err)
{
	struct detour_fault *s = f->state;
	const char *name = f->driver->spec->name;

	(void)err;
	node_point(f->node, name, "before-fire");
	detour_fire(s->detour, f->deadline_boot_ns);
	node_point(f->node, name, "fired");
	return 0;
}

bool detour_fault_target_is_gone(const struct fault *f)
{
	const struct detour_fault *s = f->state;

	return net_space_is_gone(&s->target.space, f->instance);
}

void detour_fault_release(struct fault *f)
{
	struct detour_fault *s = f->state;
	const char *name = f->driver->spec->name;

	f->state = NULL;
	node_point(f->node, name, "before-release");
	detour_fault_free(s);
	node_point(f->node, name, "released");
}
