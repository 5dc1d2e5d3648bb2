/*
 * net-partition: frames to and from chosen peers are dropped or rejected by programs on the
 * instance's interfaces, inside its network namespace (bpf/net_partition.bpf.c). Armed, the
 * programs are attached and inert; one store into memory that all of them share fires them, one
 * store heals. The effect is held: it ends with the agent (fault/net_attach.h).
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "bpf/net_partition.h"
#include "core/catalogue/net_params.h"
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/net_attach.h"
#include "fault/net_filters.h"
#include "fault/net_rules.h"
#include "fault/net_target.h"
#include "kernel/netns.h"
#include "net_partition.skel.h"

#define FAULT "net-partition"

static const char *const mechanisms[] = {
	[NET_HOOK_TCX] = "tcx",
	[NET_HOOK_CLSACT] = "clsact",
};

/* The kernel frees what a dead agent held on its own time; normally that has happened long ago. */
#define VERIFY_TRIES 25
#define VERIFY_WAIT_NS (4 * NS_PER_MS)

struct partition {
	struct net_partition *bpf;
	struct net_rules rules;
	struct net_target target;
	bool in, out;
	uint32_t position;
	struct net_attach *attach;
	struct net_count *per_cpu;	/* room for one value of the counters' map */
	int n_cpus;
};

static void partition_free(struct partition *p)
{
	if (p->bpf && p->bpf->bss)
		__atomic_store_n(&p->bpf->bss->until_boot_ns, 0, __ATOMIC_RELEASE);
	net_attach_close(p->attach);
	net_partition__destroy(p->bpf);
	net_position_drop(p->position);
	net_rules_done(&p->rules);
	net_target_done(&p->target);
	free(p->per_cpu);
	free(p);
}
DEFINE_CLEANUP(struct partition, partition_free)

/* Loads the programs; p without rules (a probe) gives programs that match nothing. */
static int load(struct partition *p, enum net_partition_action action, uint32_t chance_ppm,
	struct err **err)
{
	size_t labels = p->rules.n_labels ? p->rules.n_labels : 1;
	int r;

	libbpf_set_print(NULL);		/* errors are returned, not printed */
	p->bpf = net_partition__open();
	if (!p->bpf)
		return err_errno(err, errno, "open the BPF program");
	p->bpf->rodata->action = action;
	p->bpf->rodata->chance_ppm = chance_ppm;
	p->bpf->rodata->position = p->position;
	p->bpf->rodata->net_rules_depth = p->rules.depth;
	if (p->rules.count)
		net_rules_copy(&p->rules, (struct net_rule *)p->bpf->rodata->net_rules);
	bpf_program__set_autoload(p->bpf->progs.net_part_in, p->in);
	bpf_program__set_autoload(p->bpf->progs.net_part_out, p->out);
	r = bpf_map__set_max_entries(p->bpf->maps.net_counts,
		(uint32_t)(labels * NET_DIRECTION_MAX));
	if (r == 0)
		r = net_partition__load(p->bpf);
	if (r < 0)
		return err_errno(err, r, "load the BPF program");
	return net_rules_fill(&p->rules, bpf_map__fd(p->bpf->maps.net_prefixes), err);
}

static int attach(struct partition *p, const struct fault *f, enum net_hook hook, struct err **err)
{
	_cleanup_free_ struct net_point *points = calloc(p->target.n_links * NET_DIRECTION_MAX,
		sizeof(*points));
	struct net_attach_plan plan = {
		.node = f->node,
		.fault = FAULT,
		.experiment = f->experiment,
		.hook = hook,
		.netns_fd = p->target.netns_fd,
		.position = p->position,
		.points = points,
		.programs = {
			[NET_IN] = p->in ? bpf_program__fd(p->bpf->progs.net_part_in) : -1,
			[NET_OUT] = p->out ? bpf_program__fd(p->bpf->progs.net_part_out) : -1,
		},
	};

	p->n_cpus = libbpf_num_possible_cpus();
	if (p->n_cpus < 1)
		return err_errno(err, p->n_cpus, "count processors");
	p->per_cpu = calloc((size_t)p->n_cpus, sizeof(*p->per_cpu));
	if (!points || !p->per_cpu)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < p->target.n_links * NET_DIRECTION_MAX; i++) {
		const struct link_info *link = &p->target.links[i / NET_DIRECTION_MAX];
		struct net_point *point = &points[plan.n_points];

		point->direction = (enum net_direction)(i % NET_DIRECTION_MAX);
		if (plan.programs[point->direction] < 0)
			continue;
		point->ifindex = link->ifindex;
		memcpy(point->name, link->name, sizeof(point->name));
		plan.n_points++;
	}
	return net_attach_open(&plan, &p->attach, err);
}

/* All that arming and placing do, on the loopback of a namespace that ends with the try. */
static int try_all(struct partition *p, const struct node *node, enum net_hook hook, struct err **err)
{
	const struct node quiet = {.event = node->event, .name = node->name};
	const struct fault f = {.node = &quiet, .experiment = "probe"};
	int r;

	p->in = p->out = true;
	p->target.links = calloc(1, sizeof(*p->target.links));
	if (!p->target.links)
		return err_set(err, ENOMEM, "out of memory");
	p->target.n_links = 1;
	p->target.links[0].ifindex = LINK_LOOPBACK;
	strcpy(p->target.links[0].name, "lo");
	r = netns_new(&p->target.netns_fd, err);
	p->position = 1;
	if (r == 0)
		r = load(p, NET_PARTITION_REJECT, 1, err);
	if (r == 0)
		r = attach(p, &f, hook, err);
	p->position = 0;	/* none was taken */
	return r < 0 ? r : net_attach_place(p->attach, NULL, err);
}

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_(partition_freep) struct partition *p = calloc(1, sizeof(*p));
	_cleanup_err_ struct err *why = NULL;
	enum net_hook hook = NET_HOOK_TCX;
	int r;

	if (!p)
		return err_set(err, ENOMEM, "probe " FAULT ": out of memory");
	p->target.netns_fd = -1;
	r = net_hook_choose(node, &hook, &why);
	if (r == 0)
		r = try_all(p, node, hook, &why);
	ret->supported = r == 0;
	if (r == 0)
		ret->mechanism = strdup(mechanisms[hook]);
	ret->reason = r == 0 ? net_hook_remark(hook) : strdup(err_text(why));
	return 0;
}

/* What verify_clean() needs: a program is known by its id and the time it was loaded, since ids
 * come again. */
static int write_record(const struct partition *p, const struct fault *f, cJSON **ret,
	struct err **err)
{
	const struct bpf_program *programs[] = {p->in ? p->bpf->progs.net_part_in : NULL,
		p->out ? p->bpf->progs.net_part_out : NULL};
	_cleanup_json_ cJSON *record = json_object();
	cJSON *list = json_array();

	json_add_uint(record, "netns", p->target.space.inode);
	json_add_uint(record, "pid", (uint64_t)f->instance->pid);
	json_add_uint(record, "start_ticks", f->instance->start_ticks);
	json_add_item(record, "programs", list);
	for (size_t i = 0; i < ELEMENTS(programs); i++) {
		struct bpf_prog_info info = {0};
		uint32_t length = sizeof(info);
		cJSON *program;
		int r;

		if (!programs[i])
			continue;
		r = bpf_obj_get_info_by_fd(bpf_program__fd(programs[i]), &info, &length);
		if (r < 0)
			return err_errno(err, r, "ask for the BPF program's id");
		program = json_object();
		json_add_uint(program, "id", info.id);
		json_add_uint(program, "load_time_ns", info.load_time);
		json_append(list, program);
	}
	*ret = steal_ptr(record);
	return net_attach_record(p->attach, f->instance, *ret, err);
}

static int take_position(struct partition *p, enum net_hook hook, struct err **err)
{
	uint32_t highest = 0;
	int r = net_hook_highest(hook, p->target.netns_fd, p->target.links, p->target.n_links, &highest,
		err);

	return r < 0 ? r : net_position_take_above(highest, &p->position, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(partition_freep) struct partition *p = calloc(1, sizeof(*p));
	uint64_t way = params_number(f->params, "direction");
	enum net_hook hook = NET_HOOK_TCX;
	int r;

	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	p->target.netns_fd = -1;
	p->in = way != NET_WAY_OUT;
	p->out = way != NET_WAY_IN;
	r = net_rules_from_params(f->params, &p->rules, err);
	if (r == 0)
		r = net_target_open(f->instance, &p->target, err);
	if (r == 0)
		r = net_hook_choose(f->node, &hook, err);
	if (r == 0)
		r = take_position(p, hook, err);
	if (r < 0)
		return r;
	node_point(f->node, FAULT, "before-load");
	r = load(p, (enum net_partition_action)params_number(f->params, "action"),
		(uint32_t)params_number(f->params, "percent"), err);
	node_point(f->node, FAULT, "loaded");
	if (r == 0)
		r = attach(p, f, hook, err);
	if (r == 0)
		r = write_record(p, f, &ret->record, err);
	if (r < 0)
		return r;
	net_target_close(&p->target);
	f->mechanism = mechanisms[hook];
	f->lifetime = net_hook_lifetime(hook);
	f->state = steal_ptr(p);
	return 0;
}

static int place(struct fault *f, struct undo *u, struct err **err)
{
	struct partition *p = f->state;

	return net_attach_place(p->attach, u->record, err);
}

static int fire(struct fault *f, struct err **err)
{
	struct partition *p = f->state;

	if (f->deadline_boot_ns <= boot_ns())
		return err_set(err, ETIMEDOUT, "the deadline has passed before the fault");
	node_point(f->node, FAULT, "before-fire");
	__atomic_store_n(&p->bpf->bss->until_boot_ns, f->deadline_boot_ns, __ATOMIC_RELEASE);
	node_point(f->node, FAULT, "fired");
	return 0;
}

static int read_count(const struct partition *p, size_t label, enum net_direction direction,
	struct net_count *ret, struct err **err)
{
	uint32_t key = (uint32_t)(label * NET_DIRECTION_MAX + direction);
	int r = bpf_map_lookup_elem(bpf_map__fd(p->bpf->maps.net_counts), &key, p->per_cpu);

	if (r < 0)
		return err_errno(err, r, "read the counters");
	*ret = (struct net_count){0};
	for (int i = 0; i < p->n_cpus; i++) {
		ret->packets += p->per_cpu[i].packets;
		ret->bytes += p->per_cpu[i].bytes;
	}
	return 0;
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	static const char *const words[] = {[NET_IN] = "in", [NET_OUT] = "out"};
	const struct partition *p = f->state;
	_cleanup_json_ cJSON *detail = json_object();
	cJSON *peers = json_array();
	uint64_t hits = 0;

	json_add_item(detail, "peers", peers);
	for (size_t i = 0; i < p->rules.n_labels; i++) {
		cJSON *peer = json_object();

		json_append(peers, peer);
		json_add_string(peer, "peer", p->rules.labels[i]);
		for (int d = 0; d < NET_DIRECTION_MAX; d++) {
			struct net_count c = {0};
			cJSON *o;
			int r = read_count(p, i, (enum net_direction)d, &c, err);

			if (r < 0)
				return r;
			o = json_object();
			json_add_uint(o, "packets", c.packets);
			json_add_uint(o, "bytes", c.bytes);
			json_add_item(peer, words[d], o);
			hits += c.packets;
		}
	}
	ret->hits = hits;
	ret->detail = steal_ptr(detail);
	return 0;
}

static void release(struct fault *f)
{
	struct partition *p = f->state;

	node_point(f->node, FAULT, "before-release");
	/* First of all, so that every interface and direction heals at once. */
	__atomic_store_n(&p->bpf->bss->until_boot_ns, 0, __ATOMIC_RELEASE);
	node_point(f->node, FAULT, "healed");
	partition_free(p);
	f->state = NULL;
	node_point(f->node, FAULT, "released");
}

static bool target_is_gone(const struct fault *f)
{
	const struct partition *p = f->state;

	return net_space_is_gone(&p->target.space, f->instance);
}

struct program_record {
	uint64_t id, load_time_ns;
};

/* 1: it is still in the kernel. */
static int is_loaded(const struct program_record *x, struct err **err)
{
	_cleanup_close_ int fd = bpf_prog_get_fd_by_id((uint32_t)x->id);
	struct bpf_prog_info info = {0};
	uint32_t length = sizeof(info);
	int r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(err, fd, "look for BPF program %u", (uint32_t)x->id);
	r = bpf_obj_get_info_by_fd(fd, &info, &length);
	if (r < 0)
		return err_errno(err, r, "look at BPF program %u", (uint32_t)x->id);
	return info.load_time == x->load_time_ns;
}

static int verify_program(const cJSON *json, struct err **err)
{
	static const struct json_field fields[] = {
		{"id", JSON_UINT64, offsetof(struct program_record, id), .mandatory = true},
		{"load_time_ns", JSON_UINT64, offsetof(struct program_record, load_time_ns),
			.mandatory = true},
		JSON_FIELD_END,
	};
	const struct timespec wait = {.tv_nsec = VERIFY_WAIT_NS};
	struct program_record x = {0};
	int r = json_dispatch(json, fields, &x, JSON_REFUSE_UNKNOWN, err);

	if (r < 0)
		return err_wrap(err, EBADMSG, "programs");
	if (x.id == 0 || x.id > UINT32_MAX)
		return err_set(err, EBADMSG, "id: not that of a BPF program");
	for (int i = 0; i < VERIFY_TRIES; i++) {
		r = is_loaded(&x, err);
		if (r <= 0)
			return r;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
	}
	return err_set(err, EBUSY, "BPF program %u is still loaded", (uint32_t)x.id);
}

/* Of the rest of the record the namespace is for people. */
struct record {
	uint64_t netns, start_ticks;
	pid_t pid;
	cJSON *programs, *clsact;
};

static void record_done(struct record *x)
{
	cJSON_Delete(x->programs);
	cJSON_Delete(x->clsact);
}

static int record_read(const cJSON *json, struct record *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"netns", JSON_UINT64, offsetof(struct record, netns), .mandatory = true},
		{"pid", JSON_PID, offsetof(struct record, pid), .mandatory = true},
		{"start_ticks", JSON_UINT64, offsetof(struct record, start_ticks), .mandatory = true},
		{"programs", JSON_ANY, offsetof(struct record, programs), .mandatory = true},
		{"clsact", JSON_ANY, offsetof(struct record, clsact), .mandatory = false},
		JSON_FIELD_END,
	};
	int r = json_dispatch(json, fields, ret, JSON_REFUSE_UNKNOWN, err);

	if (r >= 0 && !cJSON_IsArray(ret->programs))
		r = err_set(err, EBADMSG, "programs: expected an array");
	return r < 0 ? err_wrap(err, EBADMSG, FAULT " record") : 0;
}

static int verify_clean(const struct undo *u, struct err **err)
{
	_cleanup_(record_done) struct record x = {0};
	const cJSON *program;
	int r = record_read(u->record, &x, err);

	if (r < 0)
		return r;
	cJSON_ArrayForEach(program, x.programs) {
		r = verify_program(program, err);
		if (r < 0)
			return err_wrap(err, r, FAULT " record");
	}
	return net_filters_verify(u, err);
}

const struct fault_driver driver_net_partition = {
	.spec = &fault_net_partition,
	.probe = probe,
	.arm = arm,
	.place = place,
	.fire = fire,
	.observe = observe,
	.release = release,
	.revert = net_filters_revert,
	.verify_clean = verify_clean,
	.target_is_gone = target_is_gone,
};
