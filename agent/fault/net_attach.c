#include "fault/net_attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <linux/rtnetlink.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "fault/net_filters.h"
#include "kernel/clsact.h"
#include "kernel/netlink.h"
#include "kernel/netns.h"
#include "kernel/tcx.h"
#include "net_held.skel.h"

#define GRACE_NS (20 * NS_PER_MS)

struct net_attach {
	struct net_attach_plan plan;
	int *link_fds;			/* tcx */
	size_t n_links;
	struct net_held *held;		/* clsact, from here on */
	struct net_filters filters;
	int netlink_fd;			/* until they are placed: it keeps the namespace */
};

int net_hook_choose(const struct node *node, enum net_hook *ret, struct err **err)
{
	static atomic_bool no_tcx;	/* what a kernel has not, it will not get */
	_cleanup_err_ struct err *why = NULL, *why_not = NULL;
	int r;

	if (!node->without_tcx && !atomic_load(&no_tcx)) {
		r = tcx_supported(&why);
		if (r == 0)
			*ret = NET_HOOK_TCX;
		if (r != -EOPNOTSUPP)
			return r < 0 ? err_set(err, r, "%s", err_text(why)) : 0;
	}
	r = clsact_supported(&why_not);
	/* What both lack is said once. */
	if (r < 0 && why && strcmp(err_text(why), err_text(why_not)) != 0)
		return err_set(err, r, "%s; %s", err_text(why), err_text(why_not));
	if (r < 0)
		return err_set(err, r, "%s", err_text(why_not));
	if (why)
		atomic_store(&no_tcx, true);
	*ret = NET_HOOK_CLSACT;
	return 0;
}

enum lifetime net_hook_lifetime(enum net_hook hook)
{
	return hook == NET_HOOK_TCX ? LIFETIME_HELD : LIFETIME_JOURNALED;
}

char *net_hook_remark(enum net_hook hook)
{
	if (hook == NET_HOOK_TCX)
		return NULL;
	return strdup("journaled (no tcx before Linux 6.6): the effect ends with the agent, filters that "
		      "pass everything stay until its next start");
}

struct priorities {
	bool taken[UINT16_MAX + 1];
	uint32_t highest;	/* position of ours */
};

static int priorities_add(struct priorities *p, int fd, int ifindex, enum tcx_direction direction,
	struct err **err)
{
	_cleanup_free_ struct clsact_filter *list = NULL;
	size_t count = 0;
	int r = clsact_filter_list(fd, ifindex, direction, &list, &count, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		uint32_t position = net_filter_position(&list[i]);

		p->taken[list[i].priority] = true;
		if (position > p->highest)
			p->highest = position;
	}
	return r;
}

int net_hook_highest(enum net_hook hook, int netns_fd, const struct link_info *links, size_t n_links,
	uint32_t *ret, struct err **err)
{
	_cleanup_free_ struct priorities *p = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (hook == NET_HOOK_TCX) {
		*ret = 0;
		return 0;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	r = netlink_open(netns_fd, NETLINK_ROUTE, &fd, err);
	for (size_t i = 0; r == 0 && i < n_links * TCX_DIRECTION_MAX; i++)
		r = priorities_add(p, fd, links[i / TCX_DIRECTION_MAX].ifindex,
			(enum tcx_direction)(i % TCX_DIRECTION_MAX), err);
	if (r < 0)
		return r;
	while (p->highest < NET_FILTER_POSITION_MAX && p->taken[NET_FILTER_PRIORITY_BASE + p->highest + 1])
		p->highest++;
	*ret = p->highest;
	return 0;
}

static enum tcx_direction tcx_of(enum net_direction direction)
{
	return direction == NET_IN ? TCX_INGRESS : TCX_EGRESS;
}

/* Runs inside the instance's namespace. */
static int attach_links(void *data, struct err **err)
{
	struct net_attach *a = data;

	for (size_t i = 0; i < a->plan.n_points; i++) {
		const struct net_point *point = &a->plan.points[i];
		int r = tcx_attach(a->plan.programs[point->direction], point->ifindex,
			tcx_of(point->direction), &a->link_fds[a->n_links], err);

		if (r < 0)
			return err_wrap(err, r, "%s", point->name);
		a->n_links++;
	}
	return 0;
}

static int open_tcx(struct net_attach *a, struct err **err)
{
	int r;

	a->link_fds = calloc(a->plan.n_points, sizeof(*a->link_fds));
	if (!a->link_fds)
		return err_set(err, ENOMEM, "out of memory");
	r = netns_run(a->plan.netns_fd, attach_links, a, err);
	if (r == 0)
		node_point(a->plan.node, a->plan.fault, "attached");
	return r;
}

static const struct bpf_program *stand_in(const struct net_attach *a, enum net_direction direction)
{
	return direction == NET_IN ? a->held->progs.net_held_in : a->held->progs.net_held_out;
}

/* The programs that will stand on the interfaces, and the table through which they lead on. */
static int load_held(struct net_attach *a, struct err **err)
{
	int r;

	a->held = net_held__open_and_load();
	if (!a->held)
		return err_errno(err, errno, "load the BPF programs");
	for (uint32_t d = 0; d < NET_DIRECTION_MAX; d++) {
		if (a->plan.programs[d] < 0)
			continue;
		r = bpf_map_update_elem(bpf_map__fd(a->held->maps.net_held), &d,
			&a->plan.programs[d], BPF_ANY);
		if (r < 0)
			return err_errno(err, r, "put a BPF program into its table");
	}
	return 0;
}

static int identify(int prog_fd, struct clsact_filter *f, struct err **err)
{
	struct bpf_prog_info info = {0};
	uint32_t length = sizeof(info);
	int r = bpf_obj_get_info_by_fd(prog_fd, &info, &length);

	if (r < 0)
		return err_errno(err, r, "ask for a BPF program's id");
	f->program = info.id;
	memcpy(f->tag, info.tag, sizeof(f->tag));
	return 0;
}

/* Ours to remove at the end: one that we will make, or that another fault of ours has made. */
static int choose_qdisc(const struct net_attach *a, const struct net_point *point,
	struct net_filter *f, struct err **err)
{
	char kind[CLSACT_KIND_MAX];
	enum clsact_qdisc qdisc;
	int r;

	for (size_t i = 0; i < a->filters.count; i++) {
		if (a->filters.list[i].filter.ifindex == point->ifindex) {
			f->our_qdisc = a->filters.list[i].our_qdisc;
			return 0;
		}
	}
	r = clsact_qdisc_look(a->netlink_fd, point->ifindex, &qdisc, kind, err);
	if (r < 0)
		return r;
	if (qdisc == CLSACT_OTHER)
		return err_set(err, EBUSY, "%s: another program made a qdisc \"%s\" where a kernel before 6.6 "
			"needs clsact: let that program use clsact, or end it and run \"tc qdisc del dev %s "
			"%s\" in the instance's network namespace", point->name, kind, point->name, kind);
	f->add_qdisc = f->our_qdisc = qdisc == CLSACT_ABSENT;
	if (qdisc == CLSACT_PRESENT)
		return net_filters_qdisc_is_ours(a->netlink_fd, point->ifindex, &f->our_qdisc, err);
	return 0;
}

static int plan_filters(struct net_attach *a, struct err **err)
{
	const struct net_attach_plan *plan = &a->plan;

	for (size_t i = 0; i < plan->n_points; i++) {
		const struct net_point *point = &plan->points[i];
		struct net_filter *f = &a->filters.list[i];
		int r;

		f->filter.ifindex = point->ifindex;
		f->filter.direction = tcx_of(point->direction);
		snprintf(f->interface, sizeof(f->interface), "%s", point->name);
		r = choose_qdisc(a, point, f, err);
		if (r == 0)
			r = identify(bpf_program__fd(stand_in(a, point->direction)), &f->filter, err);
		if (r < 0)
			return r;
		net_filter_fill(&f->filter, plan->position, f->our_qdisc, plan->experiment);
		a->filters.count++;
	}
	return 0;
}

static int open_clsact(struct net_attach *a, struct err **err)
{
	int r;

	if (a->plan.position > NET_FILTER_POSITION_MAX)
		return err_set(err, EBUSY,
			"all %u positions of network faults were used; end those that are active",
			NET_FILTER_POSITION_MAX);
	a->filters.list = calloc(a->plan.n_points, sizeof(*a->filters.list));
	if (!a->filters.list)
		return err_set(err, ENOMEM, "out of memory");
	r = netns_inode(a->plan.netns_fd, &a->filters.netns, err);
	if (r == 0)
		r = netns_cookie(a->plan.netns_fd, &a->filters.netns_cookie, err);
	if (r == 0)
		r = netlink_open(a->plan.netns_fd, NETLINK_ROUTE, &a->netlink_fd, err);
	if (r == 0)
		r = load_held(a, err);
	return r < 0 ? r : plan_filters(a, err);
}

int net_attach_open(const struct net_attach_plan *plan, struct net_attach **ret, struct err **err)
{
	struct net_attach *a;
	int r;

	if (plan->n_points == 0 || plan->n_points > NET_POINTS_MAX)
		return err_set(err, EINVAL, "too many interfaces: %d directions can be used at once",
			NET_POINTS_MAX);
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(err, ENOMEM, "out of memory");
	a->plan = *plan;
	a->netlink_fd = -1;
	r = plan->hook == NET_HOOK_TCX ? open_tcx(a, err) : open_clsact(a, err);
	/* The caller's. */
	a->plan.points = NULL;
	a->plan.experiment = NULL;
	a->plan.netns_fd = -1;
	if (r < 0) {
		net_attach_close(a);
		return r;
	}
	*ret = a;
	return 0;
}

int net_attach_record(const struct net_attach *a, const struct instance_info *instance, cJSON *record,
	struct err **err)
{
	struct net_filters f = a->filters;

	(void)err;
	if (a->plan.hook == NET_HOOK_TCX)
		return 0;
	f.pid = instance->pid;
	f.start_ticks = instance->start_ticks;
	json_add_item(record, "clsact", net_filters_to_json(&f));
	return 0;
}

/* Somebody was faster: then it is theirs, whatever we had meant to do. */
static void disown(struct net_attach *a, cJSON *record, int ifindex)
{
	const cJSON *filters = json_get(json_get(record, "clsact"), "filters");

	for (size_t i = 0; i < a->filters.count; i++) {
		cJSON *item = cJSON_GetArrayItem(filters, (int)i);

		if (a->filters.list[i].filter.ifindex != ifindex)
			continue;
		a->filters.list[i].our_qdisc = false;
		if (item)
			cJSON_ReplaceItemInObjectCaseSensitive(item, "our_qdisc", cJSON_CreateFalse());
	}
}

static int place_one(struct net_attach *a, const struct net_filter *f, cJSON *record, struct err **err)
{
	enum net_direction direction = f->filter.direction == TCX_INGRESS ? NET_IN : NET_OUT;
	int r = 0;

	if (f->add_qdisc) {
		r = clsact_qdisc_add(a->netlink_fd, f->filter.ifindex, err);
		if (r == -EEXIST) {
			disown(a, record, f->filter.ifindex);
			return err_set(err, EBUSY,
				"another program made a qdisc at the same moment: try again");
		}
		if (r == 0)
			node_point(a->plan.node, a->plan.fault, "qdisc-made");
	}
	if (r == 0)
		r = clsact_filter_add(a->netlink_fd, &f->filter,
			bpf_program__fd(stand_in(a, direction)), err);
	if (r == 0)
		node_point(a->plan.node, a->plan.fault, "filter-added");
	return r;
}

int net_attach_place(struct net_attach *a, cJSON *record, struct err **err)
{
	int r = 0;

	if (a->plan.hook == NET_HOOK_TCX)
		return 0;
	node_point(a->plan.node, a->plan.fault, "before-place");
	for (size_t i = 0; r == 0 && i < a->filters.count; i++) {
		r = place_one(a, &a->filters.list[i], record, err);
		if (r < 0)
			err_wrap(err, r, "%s", a->filters.list[i].interface);
	}
	closep(&a->netlink_fd);
	a->netlink_fd = -1;
	node_point(a->plan.node, a->plan.fault, "placed");
	return r;
}

/* Programs run with softirqs off, in a read-side section of RCU: after a grace period none runs that
 * was found in the table before. Where the call is refused (nohz_full), a pause must do. */
static void wait_grace_period(void)
{
	const struct timespec pause = {.tv_nsec = GRACE_NS};

	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0)
		nanosleep(&pause, NULL);
}

void net_attach_close(struct net_attach *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_links; i++)
		close(a->link_fds[i]);
	free(a->link_fds);
	if (a->held) {
		for (uint32_t d = 0; d < NET_DIRECTION_MAX; d++)
			bpf_map_delete_elem(bpf_map__fd(a->held->maps.net_held), &d);
		wait_grace_period();
		net_held__destroy(a->held);
	}
	net_filters_done(&a->filters);
	closep(&a->netlink_fd);
	free(a);
}

struct own {
	int prog_fd, ifindex;
	enum net_direction direction;
	int link_fd;
};

static int own_link(void *data, struct err **err)
{
	struct own *o = data;

	return tcx_attach(o->prog_fd, o->ifindex, tcx_of(o->direction), &o->link_fd, err);
}

int net_attach_own(enum net_hook hook, int netns_fd, int ifindex, enum net_direction direction,
	uint32_t position, int prog_fd, int *ret_fd, struct err **err)
{
	struct own o = {prog_fd, ifindex, direction, -1};
	struct clsact_filter f = {.ifindex = ifindex, .direction = tcx_of(direction)};
	_cleanup_err_ struct err *why = NULL;
	_cleanup_close_ int fd = -1;
	int r;

	if (hook == NET_HOOK_TCX) {
		r = netns_run(netns_fd, own_link, &o, err);
		if (r == 0)
			*ret_fd = o.link_fd;
		return r;
	}
	r = netlink_open(netns_fd, NETLINK_ROUTE, &fd, err);
	if (r < 0)
		return r;
	r = clsact_qdisc_add(fd, ifindex, &why);
	if (r < 0 && r != -EEXIST)
		return err_set(err, r, "%s", err_text(why));
	net_filter_fill(&f, position, true, "tap");
	r = clsact_filter_add(fd, &f, prog_fd, err);
	if (r == 0)
		*ret_fd = -1;
	return r;
}
