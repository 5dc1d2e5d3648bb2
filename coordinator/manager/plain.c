#include "manager/plain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

struct plain {
	struct manager base;
	struct instance_info **instances;	/* copies */
	size_t n;
};

static int plain_detect(const struct manager_world *w, struct err **err)
{
	return w->n ? 0 : err_set(err, -ENOENT, "no instances");
}

/* Who leads is only known while exactly one instance says so. */
static int plain_read(struct manager *m, struct cluster_view **ret, struct err **err)
{
	struct plain *p = (struct plain *)m;
	struct cluster_view *v = calloc(1, sizeof(*v));
	size_t primaries = 0;

	(void)err;
	if (!v)
		abort();
	v->at_ns = now_ns();
	v->source = strdup("processes");
	v->guessed = true;
	v->members = calloc(p->n + 1, sizeof(*v->members));
	if (!v->members)
		abort();
	for (size_t i = 0; i < p->n; i++) {
		const struct instance_info *n = p->instances[i];

		v->members[v->n_members++] = (struct cluster_member){
			.name = strdup(n->member),
			.instance = strdup(n->name),
			.role = n->role,
			.running = true,
			.state = strdup("running"),
			.lag_bytes = -1,
		};
		if (n->role != ROLE_PRIMARY)
			continue;
		free(v->leader);
		v->leader = primaries++ ? NULL : strdup(n->member);
	}
	*ret = v;
	return 0;
}

/* Nothing to watch: with no manager, only SQL tells of a promotion, and the probes see that. */
static int plain_watch(struct manager *m, uint64_t interval_ms, const struct manager_listener *l,
	struct err **err)
{
	(void)m;
	(void)interval_ms;
	(void)l;
	(void)err;
	return 0;
}

static int plain_dcs(struct manager *m, char ***ret, struct err **err)
{
	(void)m;
	(void)err;
	*ret = NULL;
	return 0;
}

static void plain_free(struct manager *m)
{
	struct plain *p = (struct plain *)m;

	for (size_t i = 0; i < p->n; i++)
		instance_info_free(p->instances[i]);
	free(p->instances);
	free(p);
}

static const struct manager_ops ops = {
	.read = plain_read,
	.watch = plain_watch,
	.dcs_addresses = plain_dcs,
	.free = plain_free,
};

static int plain_open(const struct manager_world *w, struct manager **ret, struct err **err)
{
	struct plain *p = calloc(1, sizeof(*p));

	(void)err;
	if (!p)
		abort();
	p->base = (struct manager){&manager_plain, &ops};
	p->instances = calloc(w->n + 1, sizeof(*p->instances));
	if (!p->instances)
		abort();
	for (size_t i = 0; i < w->n; i++)
		p->instances[p->n++] = instance_info_copy(w->instances[i]);
	*ret = &p->base;
	return 0;
}

const struct manager_driver manager_plain = {
	.name = "plain",
	.detect = plain_detect,
	.open = plain_open,
};
