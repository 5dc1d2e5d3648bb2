/* What an agent lets in, whatever it is asked: the form of a request, limits, rules of the target. */
#include <fnmatch.h>
#include <string.h>
#include "core/clock.h"
#include "core/units.h"
#include "experiment/machine.h"

static int admit_time(const char *what, uint64_t ms, uint64_t max_ms, struct err **err)
{
	char given[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];

	if (ms == 0)
		return err_set(err, EINVAL, "%s: must be above 0", what);
	if (ms > max_ms)
		return err_set(err, EPERM, "%s: %s is above this agent's limit of %s", what,
			ms > UINT64_MAX / NS_PER_MS ? "that" : duration_format(ms * NS_PER_MS, given),
			duration_format(max_ms * NS_PER_MS, most));
	return 0;
}

static int admit_fault(struct experiment *e, const cJSON *params, struct err **err)
{
	const struct experiments_config *c = &e->all->config;
	int r;

	r = c->find_fault(e->fault_name, &e->driver, err);
	if (r < 0)
		return r;
	if (c->limits->faults_allowed && !strv_contains(c->limits->faults_allowed, e->fault_name))
		return err_set(err, EPERM, "fault %s is not among those that this agent allows",
			e->fault_name);
	return params_from_json(e->driver->spec, params, &e->params, err);
}

static bool target_is_allowed(char *const *patterns, const struct instance_info *i)
{
	for (; *patterns; patterns++)
		if (fnmatch(*patterns, i->name, 0) == 0 ||
		    (i->cluster && fnmatch(*patterns, i->cluster, 0) == 0))
			return true;
	return false;
}

static int admit_target(struct experiment *e, const struct arm_request *request, struct err **err)
{
	const struct experiments_config *c = &e->all->config;
	const struct instance_info *i;
	int r;

	r = c->find_instance(c->node->name, request->instance, &e->instance, err);
	if (r < 0)
		return r;
	i = e->instance;
	e->postmaster = (struct proc_id){.pid = i->pid, .start_ticks = i->start_ticks};
	if (request->pid > 0 &&
	    (request->pid != i->pid ||
	     (request->start_ticks && request->start_ticks != i->start_ticks)))
		return err_set(err, ESTALE,
			"instance %s: the postmaster that was meant (%d) is not the one that runs (%d)",
			i->name, (int)request->pid, (int)i->pid);
	if (i->pid <= 1 || i->pid == getpid())
		return err_set(err, EPERM, "instance %s: process %d is never a target", i->name,
			(int)i->pid);
	if (i->host_network && strncmp(e->fault_name, "net-", 4) == 0)
		return err_set(err, EPERM,
			"instance %s shares the node's network namespace: %s would hit the node itself",
			i->name, e->fault_name);
	if (c->check_target) {
		r = c->check_target(e->instance, request, c->data, err);
		if (r < 0)
			return r;
	}
	if (c->limits->clusters_allowed && !target_is_allowed(c->limits->clusters_allowed, i))
		return err_set(err, EPERM, "instance %s is not among those that this agent allows",
			i->name);
	return 0;
}

/* Is e the first in the list that is live on its instance? */
static bool first_on_instance(const struct experiments *all, const struct experiment *e)
{
	for (size_t k = 0; k < all->count && all->list[k] != e; k++)
		if (experiment_is_live(all->list[k]) &&
		    strcmp(all->list[k]->instance_name, e->instance_name) == 0)
			return false;
	return true;
}

/* Instances of the cluster that are hit already, the one meant now not counted. */
static unsigned instances_hit(const struct experiment *e)
{
	const struct experiments *all = e->all;
	unsigned n = 0;

	for (size_t k = 0; k < all->count; k++) {
		const struct experiment *o = all->list[k];

		if (!experiment_is_live(o) || !o->instance || !o->instance->cluster ||
		    !e->instance->cluster || strcmp(o->instance->cluster, e->instance->cluster) ||
		    strcmp(o->instance_name, e->instance_name) == 0)
			continue;
		n += first_on_instance(all, o);
	}
	return n;
}

/* Those of its cluster that are on this node. */
static int count_members(const struct experiment *e, unsigned *ret, struct err **err)
{
	const struct experiments_config *c = &e->all->config;
	struct instance_info **list = NULL;
	size_t count = 0;
	unsigned n = 0;
	int r;

	r = c->list_instances(&list, &count, c->data, err);
	if (r < 0)
		return r;
	for (size_t k = 0; k < count; k++) {
		n += list[k]->cluster && strcmp(list[k]->cluster, e->instance->cluster) == 0;
		instance_info_free(list[k]);
	}
	free(list);
	*ret = n;
	return 0;
}

static int admit_share(struct experiment *e, struct err **err)
{
	const struct experiments_config *c = &e->all->config;
	uint32_t share_ppm = c->limits->share_max_ppm;
	unsigned members = 1, hit, most;
	char text[UNITS_TEXT_MAX];
	int r = 0;

	if (share_ppm >= EXPERIMENT_SHARE_ALL || !c->list_instances)
		return 0;
	if (e->instance->cluster)
		r = count_members(e, &members, err);
	if (r < 0)
		return err_wrap(err, r, "share of cluster %s", e->instance->cluster);
	hit = instances_hit(e);
	most = share_allows(share_ppm, members);
	if (hit + 1 <= most)
		return 0;
	return err_set(err, EBUSY, "%u of %u instances of cluster %s %s under fault, and at most %u may be (%s, by "
		"this agent's --max-share)", hit, members, e->instance->cluster ? e->instance->cluster :
		e->instance_name, hit == 1 ? "is" : "are", most, percent_format(share_ppm, text));
}

unsigned share_allows(uint32_t share_ppm, unsigned members)
{
	uint64_t n = (uint64_t)share_ppm * members / EXPERIMENT_SHARE_ALL;

	if (share_ppm == 0)
		return 0;
	return n == 0 ? 1 : (unsigned)n;
}

static int admit_limits(struct experiment *e, struct err **err)
{
	const struct experiment_limits *l = e->all->config.limits;
	unsigned live = 0;

	for (size_t k = 0; k < e->all->count; k++)
		live += experiment_is_live(e->all->list[k]);
	if (live >= l->concurrent_max)
		return err_set(err, EBUSY, "%u faults are there already, this agent's limit is %u", live,
			l->concurrent_max);
	if (l->instances_of_cluster_max && instances_hit(e) + 1 > l->instances_of_cluster_max)
		return err_set(err, EBUSY,
			"%u instances of cluster %s have faults already, this agent's limit is %u",
			instances_hit(e), e->instance->cluster, l->instances_of_cluster_max);
	return admit_share(e, err);
}

int experiment_admit(struct experiment *e, const struct arm_request *request, struct err **err)
{
	const struct experiment_limits *l = e->all->config.limits;
	const char *reason;
	int r;

	if (!experiments_accepting(e->all, &reason))
		return err_set(err, EBUSY, "this node takes no new fault: %s", reason);
	r = admit_time("duration", request->duration_ms, l->duration_max_ms, err);
	if (r >= 0)
		r = admit_time("lease", request->lease_ms, l->lease_max_ms, err);
	if (r >= 0)
		r = admit_fault(e, request->params, err);
	if (r >= 0)
		r = admit_target(e, request, err);
	if (r >= 0)
		r = admit_limits(e, err);
	return r;
}
