#include "fault/net_shape_detour.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include "core/cleanup.h"
#include "kernel/netns.h"
#include "net_shape.skel.h"

#define POINT(plan, name) node_point((plan)->node, (plan)->fault, name)

static const char program_prefix[] = "net_shape_";

/* A frame without an Ethernet header cannot pass a TAP. */
static int is_ethernet(int socket_fd, const char *name, bool *ret, struct err **err)
{
	struct ifreq q = {0};

	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", name);
	if (ioctl(socket_fd, SIOCGIFHWADDR, &q) < 0)
		return err_errno(err, errno, "look at interface %s", name);
	*ret = q.ifr_hwaddr.sa_family == ARPHRD_ETHER;
	return 0;
}

uint32_t detour_tap_position(const char *name)
{
	char direction, end;
	unsigned position, ifindex;

	if (sscanf(name, LINK_TAP_PREFIX "%4x%c%8x%c", &position, &direction, &ifindex, &end) != 3 ||
		(direction != 'i' && direction != 'o'))
		return 0;
	return position;
}

static int lane_add(const struct detour_plan *plan, struct detour *d, const struct link_info *link,
	enum net_direction direction, int *taps, struct err **err)
{
	char *name = d->taps[d->n_lanes];
	int ifindex, r;

	if (d->n_lanes == NET_SHAPE_LANES_MAX)
		return err_set(err, EINVAL, "too many interfaces: %d directions can be shaped at once",
			NET_SHAPE_LANES_MAX);
	/* The position makes it unique among the shapes of a namespace. */
	snprintf(name, IFNAMSIZ, LINK_TAP_PREFIX "%x%c%x", plan->position & NET_POSITION_MASK,
		direction == NET_IN ? 'i' : 'o', (unsigned)link->ifindex);
	r = link_tap_open(plan->netns_fd, name, link->mtu, &taps[d->n_lanes], &ifindex, err);
	if (r < 0)
		return r;
	d->lanes[d->n_lanes++] = (struct net_shape_lane){
		.ifindex = (uint32_t)link->ifindex,
		.tap_ifindex = (uint32_t)ifindex,
		.direction = direction,
	};
	return 0;
}

static int lanes_open(const struct detour_plan *plan, struct detour *d, int *taps, struct err **err)
{
	_cleanup_close_ int socket_fd = -1;
	int r = netns_socket(plan->netns_fd, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, &socket_fd, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < plan->n_links; i++) {
		bool ethernet = false;

		r = is_ethernet(socket_fd, plan->links[i].name, &ethernet, err);
		if (r < 0)
			return r;
		if (!ethernet)
			continue;
		if (plan->filter)
			d->only_back[d->n_lanes] = true;
		if (plan->in || plan->filter)
			r = lane_add(plan, d, &plan->links[i], NET_IN, taps, err);
		if (r == 0 && plan->out)
			r = lane_add(plan, d, &plan->links[i], NET_OUT, taps, err);
		if (r < 0)
			return r;
	}
	if (d->n_lanes == 0)
		return err_set(err, EOPNOTSUPP, "no Ethernet interface to shape");
	return 0;
}

static int programs_load(const struct detour_plan *plan, struct detour *d, struct err **err)
{
	int r;

	d->bpf = net_shape__open();
	if (!d->bpf)
		return err_errno(err, errno, "open the BPF programs");
	memcpy((void *)d->bpf->rodata->lanes, d->lanes, sizeof(d->lanes));
	d->bpf->rodata->n_lanes = d->n_lanes;
	d->bpf->rodata->position = plan->position;
	d->bpf->rodata->net_rules_depth = plan->rules->depth;
	net_rules_copy(plan->rules, (struct net_rule *)d->bpf->rodata->net_rules);
	r = net_shape__load(d->bpf);
	if (r < 0)
		return err_errno(err, r, "load the BPF programs (needs CAP_BPF and CAP_NET_ADMIN)");
	return net_rules_fill(plan->rules, bpf_map__fd(d->bpf->maps.net_prefixes), err);
}

/* The TAPs' own programs. */
static int attach_taps(const struct detour_plan *plan, struct detour *d, struct err **err)
{
	int guard = bpf_program__fd(d->bpf->progs.net_shape_guard);
	int back = bpf_program__fd(d->bpf->progs.net_shape_back);

	for (unsigned i = 0; i < d->n_lanes; i++) {
		int tap = (int)d->lanes[i].tap_ifindex;
		int r = net_attach_own(plan->hook, plan->netns_fd, tap, NET_OUT, plan->position, guard,
			&d->guards[i], err);

		if (r == 0)
			r = net_attach_own(plan->hook, plan->netns_fd, tap, NET_IN, plan->position, back,
				&d->backs[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static const char *name_of(const struct detour_plan *plan, uint32_t ifindex)
{
	for (size_t i = 0; i < plan->n_links; i++)
		if ((uint32_t)plan->links[i].ifindex == ifindex)
			return plan->links[i].name;
	return "";
}

/* The programs on the interfaces, inert as yet. */
static int attach_takes(const struct detour_plan *plan, struct detour *d, struct err **err)
{
	struct net_point points[NET_SHAPE_LANES_MAX] = {0};
	struct net_attach_plan attach = {
		.node = plan->node,
		.fault = plan->fault,
		.experiment = plan->experiment,
		.hook = plan->hook,
		.netns_fd = plan->netns_fd,
		.position = plan->position,
		.points = points,
		.programs = {
			[NET_IN] = bpf_program__fd(d->bpf->progs.net_shape_in),
			[NET_OUT] = bpf_program__fd(d->bpf->progs.net_shape_out),
		},
	};

	for (unsigned i = 0; i < d->n_lanes; i++) {
		struct net_point *point = &points[attach.n_points];

		if (d->only_back[i])
			continue;
		point->ifindex = (int)d->lanes[i].ifindex;
		point->direction = (enum net_direction)d->lanes[i].direction;
		snprintf(point->name, sizeof(point->name), "%s", name_of(plan, d->lanes[i].ifindex));
		attach.n_points++;
	}
	return net_attach_open(&attach, &d->takes, err);
}

static struct detour *detour_new(void)
{
	struct detour *d = calloc(1, sizeof(*d));

	for (unsigned i = 0; d && i < NET_SHAPE_LANES_MAX; i++)
		d->guards[i] = d->backs[i] = -1;
	return d;
}

/* The lane before a lane that takes is its way back. */
static int line_start(const struct detour_plan *plan, struct detour *d, int *taps, struct err **err)
{
	struct delay_filter filter;

	if (!plan->filter)
		return delay_line_new(plan->shape, NULL, taps, d->n_lanes, &d->line, err);
	filter = *plan->filter;
	for (unsigned i = 0; i < d->n_lanes; i++)
		filter.answer_lanes[i] = (uint8_t)(d->only_back[i] ? i : i - 1);
	return delay_line_new(plan->shape, &filter, taps, d->n_lanes, &d->line, err);
}

static int detour_build(const struct detour_plan *plan, struct detour *d, int *taps,
	struct err **err)
{
	int r;

	POINT(plan, "before-taps");
	r = lanes_open(plan, d, taps, err);
	if (r < 0)
		return r;
	POINT(plan, "taps-open");
	r = programs_load(plan, d, err);
	if (r < 0)
		return r;
	POINT(plan, "programs-loaded");
	r = attach_taps(plan, d, err);
	if (r < 0)
		return r;
	r = line_start(plan, d, taps, err);
	if (r < 0)
		return r;
	POINT(plan, "line-started");
	return attach_takes(plan, d, err);
}

int detour_open(const struct detour_plan *plan, struct detour **ret, struct err **err)
{
	_cleanup_(detour_closep) struct detour *d = detour_new();
	int taps[NET_SHAPE_LANES_MAX];
	int r;

	if (!d)
		return err_errno(err, ENOMEM, "make a detour");
	for (unsigned i = 0; i < NET_SHAPE_LANES_MAX; i++)
		taps[i] = -1;
	r = detour_build(plan, d, taps, err);
	/* The delay line has taken those that it could. */
	for (unsigned i = 0; i < NET_SHAPE_LANES_MAX; i++)
		closep(&taps[i]);
	if (r < 0)
		return r;
	*ret = steal_ptr(d);
	return 0;
}

void detour_fire(struct detour *d, uint64_t until_boot_ns)
{
	__atomic_store_n(&d->bpf->bss->until_boot_ns, until_boot_ns, __ATOMIC_RELEASE);
}

static void close_links(int *fds)
{
	for (unsigned i = 0; i < NET_SHAPE_LANES_MAX; i++) {
		closep(&fds[i]);
		fds[i] = -1;
	}
}

void detour_close(struct detour *d)
{
	if (!d)
		return;
	if (d->bpf && d->bpf->bss)
		detour_fire(d, 0);
	if (d->line)
		delay_line_open_up(d->line);
	/* No program runs any more after that, so what they sent is in the TAPs by now. */
	net_attach_close(d->takes);
	delay_line_free(d->line);
	close_links(d->backs);
	close_links(d->guards);
	net_shape__destroy(d->bpf);
	free(d);
}

int detour_program_ids(const struct detour *d, uint32_t ret[DETOUR_PROGRAMS], struct err **err)
{
	const int fds[DETOUR_PROGRAMS] = {
		bpf_program__fd(d->bpf->progs.net_shape_in),
		bpf_program__fd(d->bpf->progs.net_shape_out),
		bpf_program__fd(d->bpf->progs.net_shape_guard),
		bpf_program__fd(d->bpf->progs.net_shape_back),
	};
	uint32_t ids[DETOUR_PROGRAMS];

	for (size_t i = 0; i < DETOUR_PROGRAMS; i++) {
		struct bpf_prog_info info = {0};
		uint32_t size = sizeof(info);
		int r = bpf_obj_get_info_by_fd(fds[i], &info, &size);

		if (r < 0)
			return err_errno(err, r, "identify a BPF program");
		ids[i] = info.id;
	}
	memcpy(ret, ids, sizeof(ids));
	return 0;
}

bool detour_program_is_loaded(uint32_t id)
{
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id(id);
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
	       strncmp(info.name, program_prefix, sizeof(program_prefix) - 1) == 0;
}

int detour_count(const struct detour *d, unsigned label, enum net_direction direction,
	struct net_shape_count *ret, struct err **err)
{
	uint32_t key = label * NET_DIRECTION_MAX + direction;
	int n = libbpf_num_possible_cpus(), r;
	_cleanup_free_ struct net_shape_count *each = NULL;
	struct net_shape_count sum = {0};

	if (n < 0)
		return err_errno(err, n, "count the CPUs");
	each = calloc((size_t)n, sizeof(*each));
	if (!each)
		return err_errno(err, ENOMEM, "read counters");
	r = bpf_map_lookup_elem(bpf_map__fd(d->bpf->maps.net_shape_counts), &key, each);
	if (r < 0)
		return err_errno(err, r, "read counters");
	for (int i = 0; i < n; i++) {
		sum.frames += each[i].frames;
		sum.packets += each[i].packets;
		sum.bytes += each[i].bytes;
	}
	*ret = sum;
	return 0;
}
