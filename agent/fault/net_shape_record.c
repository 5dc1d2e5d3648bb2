#include "fault/net_shape_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/net_filters.h"
#include "kernel/netns.h"

/* Programs leave after a grace period of RCU, interfaces after one of rtnetlink. */
#define CLEAN_WITHIN_NS (2 * NS_PER_S)
#define CLEAN_POLL_NS	(2 * NS_PER_MS)

static cJSON *record_of(const struct fault *f, const struct net_target *target,
	const struct detour *d, const uint32_t ids[DETOUR_PROGRAMS])
{
	cJSON *record = json_object(), *taps = json_array(), *programs = json_array();

	json_add_uint(record, "netns", target->space.inode);
	json_add_int(record, "pid", f->instance->pid);
	json_add_uint(record, "start_ticks", f->instance->start_ticks);
	for (unsigned i = 0; i < d->n_lanes; i++)
		json_append(taps, cJSON_CreateString(d->taps[i]));
	for (size_t i = 0; i < DETOUR_PROGRAMS; i++)
		json_append(programs, cJSON_CreateNumber(ids[i]));
	json_add_item(record, "taps", taps);
	json_add_item(record, "programs", programs);
	return record;
}

int detour_record(const struct fault *f, const struct net_target *target, const struct detour *d,
	cJSON **ret, struct err **err)
{
	uint32_t ids[DETOUR_PROGRAMS];
	int r = detour_program_ids(d, ids, err);

	if (r < 0)
		return r;
	*ret = record_of(f, target, d, ids);
	return net_attach_record(d->takes, f->instance, *ret, err);
}

const char *detour_mechanism(enum net_hook hook)
{
	return hook == NET_HOOK_TCX ? "tcx, TAP and delay line" : "clsact, TAP and delay line";
}

static bool is_taken(const struct link_info *links, size_t count, uint32_t position)
{
	for (size_t i = 0; i < count; i++)
		if (detour_tap_position(links[i].name) == position)
			return true;
	return false;
}

/* Positions are counted by this process. TAPs of an agent that was killed may take a moment to go, and
 * a pod may have interfaces that are named like ours: ours goes past them, since it is named by its
 * position. */
int detour_position_take(enum net_hook hook, const struct net_target *target, uint32_t *ret,
	struct err **err)
{
	_cleanup_free_ struct link_info *links = NULL;
	uint32_t highest = 0, position = 0;
	size_t count = 0;
	int r = link_list(target->netns_fd, &links, &count, err);

	if (r == 0)
		r = net_hook_highest(hook, target->netns_fd, target->links, target->n_links, &highest,
			err);
	if (r == 0)
		r = net_position_take_above(highest, &position, err);
	while (r == 0 && is_taken(links, count, position)) {
		uint32_t passed = position;

		r = net_position_take(&position, err);
		net_position_drop(passed);
	}
	if (r == 0)
		*ret = position;
	return r;
}

/* The record, read back. It comes from a file. */
struct detour_record {
	uint64_t netns, start_ticks;
	pid_t pid;
	char **taps;
	cJSON *programs;
	cJSON *clsact;		/* fault/net_filters.h; NULL with tcx */
};

static void detour_record_done(struct detour_record *r)
{
	strv_free(r->taps);
	cJSON_Delete(r->programs);
	cJSON_Delete(r->clsact);
}

static int detour_record_read(const cJSON *json, struct detour_record *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"netns", JSON_UINT64, offsetof(struct detour_record, netns), true, NULL, NULL},
		{"pid", JSON_PID, offsetof(struct detour_record, pid), true, NULL, NULL},
		{"start_ticks", JSON_UINT64, offsetof(struct detour_record, start_ticks), true, NULL,
			NULL},
		{"taps", JSON_STRV, offsetof(struct detour_record, taps), true, NULL, NULL},
		{"programs", JSON_ANY, offsetof(struct detour_record, programs), true, NULL, NULL},
		{"clsact", JSON_ANY, offsetof(struct detour_record, clsact), false, NULL, NULL},
		JSON_FIELD_END,
	};

	const cJSON *id;
	int r;

	r = json_dispatch(json, fields, ret, JSON_REFUSE_UNKNOWN, err);
	if (r < 0)
		return r;
	if (!cJSON_IsArray(ret->programs))
		return err_set(err, EBADMSG, "programs: expected an array");
	cJSON_ArrayForEach(id, ret->programs)
		if (!cJSON_IsNumber(id) || id->valuedouble < 1 || id->valuedouble > UINT32_MAX ||
			id->valuedouble != (uint32_t)id->valuedouble)
			return err_set(err, EBADMSG, "programs: not the id of a BPF program");
	return 0;
}

/* Words about the first thing of ours that is still there, or 0. */
static int look_for_remains(const struct detour_record *record, int netns_fd, struct err **err)
{
	_cleanup_free_ struct link_info *links = NULL;
	const cJSON *id;
	size_t count = 0;
	int r;

	cJSON_ArrayForEach(id, record->programs)
		if (detour_program_is_loaded((uint32_t)id->valuedouble))
			return err_set(err, EBUSY, "BPF program %.0f is still loaded", id->valuedouble);
	if (netns_fd < 0)
		return 0;
	r = link_list(netns_fd, &links, &count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		if (strv_contains(record->taps, links[i].name))
			return err_set(err, EBUSY, "interface %s is still in the instance's network",
				links[i].name);
	return 0;
}

int detour_verify_clean(const struct undo *u, struct err **err)
{
	_cleanup_(detour_record_done) struct detour_record record = {0};
	const struct timespec pause = {.tv_nsec = CLEAN_POLL_NS};
	uint64_t until = now_ns() + CLEAN_WITHIN_NS;
	_cleanup_close_ int netns_fd = -1;
	int r = detour_record_read(u->record, &record, err);

	if (r < 0)
		return err_wrap(err, EBADMSG, "record of %s", u->spec->name);
	r = netns_find(record.pid, record.netns, &netns_fd, err);
	if (r < 0)
		return r;
	for (;;) {
		_cleanup_err_ struct err *remains = NULL;

		r = look_for_remains(&record, netns_fd, &remains);
		if (r == 0)
			return net_filters_verify(u, err);
		if (now_ns() >= until)
			return err_set(err, r, "%s", err_text(remains));
		nanosleep(&pause, NULL);
	}
}

/* The whole detour, around a TAP that stands for the instance's interface. */
static int try_detour(const struct node *node, enum net_hook hook, struct err **err)
{
	static const char stand_in[] = LINK_TAP_PREFIX "probe";
	const struct node quiet = {.event = node->event, .name = node->name};
	const struct delay_shape shape = {.delay_ns = NS_PER_MS, .limit_bytes = 1 << 16};
	const struct net_rules none = {0};
	_cleanup_(detour_closep) struct detour *d = NULL;
	_cleanup_close_ int netns_fd = -1, tap_fd = -1;
	struct link_info link = {.mtu = 1500};
	int r;

	r = netns_new(&netns_fd, err);
	if (r < 0)
		return r;
	r = link_tap_open(netns_fd, stand_in, link.mtu, &tap_fd, &link.ifindex, err);
	if (r < 0)
		return r;
	memcpy(link.name, stand_in, sizeof(stand_in));
	r = detour_open(&(struct detour_plan){
		.node = &quiet,
		.fault = "probe",
		.experiment = "probe",
		.hook = hook,
		.netns_fd = netns_fd,
		.links = &link,
		.n_links = 1,
		.in = true,
		.out = true,
		.position = 1,
		.rules = &none,
		.shape = &shape,
	}, &d, err);
	return r < 0 ? r : net_attach_place(d->takes, NULL, err);
}

int detour_probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *reason = NULL;
	enum net_hook hook = NET_HOOK_TCX;
	int r = net_hook_choose(node, &hook, &reason);

	if (r == 0)
		r = try_detour(node, hook, &reason);
	if (r == -ENOMEM)
		return err_set(err, r, "%s", err_text(reason));
	*ret = (struct support){.supported = r == 0};
	if (r == 0)
		ret->mechanism = strdup(detour_mechanism(hook));
	ret->reason = r == 0 ? net_hook_remark(hook) : strdup(err_text(reason));
	return 0;
}
