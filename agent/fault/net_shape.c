#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fault/net_shape_detour.h"
#include "fault/net_shape_evidence.h"
#include "fault/net_target.h"
#include "kernel/netns.h"
#include "kernel/proc.h"
#include "kernel/tcx.h"

#define FAULT "net-shape"
/* Programs leave after a grace period of RCU, interfaces after one of rtnetlink. */
#define CLEAN_WITHIN_NS (2 * NS_PER_S)
#define CLEAN_POLL_NS	(2 * NS_PER_MS)
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

static cJSON *record_of(const struct fault *f, const struct shape_state *s,
	const uint32_t ids[DETOUR_PROGRAMS])
{
	cJSON *record = json_object(), *taps = json_array(), *programs = json_array();

	json_add_uint(record, "netns", s->target.netns);
	json_add_int(record, "pid", f->instance->pid);
	json_add_uint(record, "start_ticks", f->instance->start_ticks);
	for (unsigned i = 0; i < s->detour->n_lanes; i++)
		json_append(taps, cJSON_CreateString(s->detour->taps[i]));
	for (size_t i = 0; i < DETOUR_PROGRAMS; i++)
		json_append(programs, cJSON_CreateNumber(ids[i]));
	json_add_item(record, "taps", taps);
	json_add_item(record, "programs", programs);
	return record;
}

/* Positions are counted by this process. TAPs of an agent that was killed may take a moment to go:
 * ours goes past them, since it is named by its position. */
static int position_take(int netns_fd, uint32_t *ret, struct err **err)
{
	_cleanup_free_ struct link_info *links = NULL;
	uint32_t position, highest = 0;
	size_t count = 0;
	int r = link_list(netns_fd, &links, &count, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++) {
		uint32_t taken = detour_tap_position(links[i].name);

		highest = taken > highest ? taken : highest;
	}
	r = net_position_take(&position, err);
	while (r == 0 && position <= highest) {
		uint32_t passed = position;

		r = net_position_take(&position, err);
		net_position_drop(passed);
	}
	if (r < 0)
		return r;
	*ret = position;
	return 0;
}

static int net_shape_arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(state_freep) struct shape_state *s = calloc(1, sizeof(*s));
	uint64_t way = params_number(f->params, "direction");
	uint32_t ids[DETOUR_PROGRAMS];
	int r;

	if (!s)
		return err_errno(err, ENOMEM, "arm " FAULT);
	s->target.netns_fd = -1;
	r = net_target_open(f->instance, &s->target, err);
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
	r = position_take(s->target.netns_fd, &s->position, err);
	if (r < 0)
		return r;
	r = detour_open(&(struct detour_plan){
		.node = f->node,
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
	r = detour_program_ids(s->detour, ids, err);
	if (r < 0)
		return r;
	ret->record = record_of(f, s, ids);
	f->mechanism = "tcx, TAP and delay line";
	f->lifetime = LIFETIME_HELD;
	f->state = steal_ptr(s);
	return 0;
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

/* Held: the kernel has ended it with the descriptors. */
static int net_shape_revert(const struct undo *u, struct err **err)
{
	(void)u;
	(void)err;
	return 0;
}

/* The record, read back. It comes from a file. */
struct shape_record {
	uint64_t netns, start_ticks;
	pid_t pid;
	char **taps;
	cJSON *programs;
};

static void shape_record_done(struct shape_record *r)
{
	strv_free(r->taps);
	cJSON_Delete(r->programs);
}

static int shape_record_read(const cJSON *json, struct shape_record *ret, struct err **err)
{
	static const struct json_field fields[] = {
		{"netns", JSON_UINT64, offsetof(struct shape_record, netns), true, NULL, NULL},
		{"pid", JSON_PID, offsetof(struct shape_record, pid), true, NULL, NULL},
		{"start_ticks", JSON_UINT64, offsetof(struct shape_record, start_ticks), true, NULL,
			NULL},
		{"taps", JSON_STRV, offsetof(struct shape_record, taps), true, NULL, NULL},
		{"programs", JSON_ANY, offsetof(struct shape_record, programs), true, NULL, NULL},
		JSON_FIELD_END,
	};

	return json_dispatch(json, fields, ret, JSON_REFUSE_UNKNOWN, err);
}

static bool is_netns_of(pid_t pid, uint64_t wanted, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	uint64_t inode;

	if (netns_open(pid, &fd, NULL) < 0 || netns_inode(fd, &inode, NULL) < 0 || inode != wanted)
		return false;
	*ret_fd = steal_fd(&fd);
	return true;
}

/* By the postmaster, else by any process in it. *ret_fd is -1 when nobody is: then it is gone. */
static int find_netns(const struct shape_record *record, int *ret_fd, struct err **err)
{
	_cleanup_free_ struct proc_stat *all = NULL;
	size_t count = 0;
	int r;

	*ret_fd = -1;
	if (is_netns_of(record->pid, record->netns, ret_fd))
		return 0;
	r = proc_list(&all, &count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count; i++)
		if (is_netns_of(all[i].id.pid, record->netns, ret_fd))
			return 0;
	return 0;
}

/* Words about the first thing of ours that is still there, or 0. */
static int look_for_remains(const struct shape_record *record, int netns_fd, struct err **err)
{
	_cleanup_free_ struct link_info *links = NULL;
	const cJSON *id;
	size_t count = 0;
	int r;

	cJSON_ArrayForEach(id, record->programs)
		if (cJSON_IsNumber(id) && id->valuedouble > 0 && id->valuedouble <= UINT32_MAX &&
			detour_program_is_loaded((uint32_t)id->valuedouble))
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

static int net_shape_verify_clean(const struct undo *u, struct err **err)
{
	_cleanup_(shape_record_done) struct shape_record record = {0};
	const struct timespec pause = {.tv_nsec = CLEAN_POLL_NS};
	uint64_t until = now_ns() + CLEAN_WITHIN_NS;
	_cleanup_close_ int netns_fd = -1;
	int r = shape_record_read(u->record, &record, err);

	if (r < 0)
		return err_wrap(err, EBADMSG, "record of " FAULT);
	r = find_netns(&record, &netns_fd, err);
	if (r < 0)
		return r;
	for (;;) {
		_cleanup_err_ struct err *remains = NULL;

		r = look_for_remains(&record, netns_fd, &remains);
		if (r == 0)
			return 0;
		if (now_ns() >= until)
			return err_set(err, r, "%s", err_text(remains));
		nanosleep(&pause, NULL);
	}
}

/* A namespace of its own for the trial; it goes with its last descriptor. */
static void *scratch_thread(void *data)
{
	int *fd = data;

	*fd = unshare(CLONE_NEWNET) == 0 ? open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
	if (*fd < 0)
		*fd = -errno;
	return NULL;
}

static int scratch_netns(int *ret_fd, struct err **err)
{
	sigset_t all, before;
	pthread_t thread;
	int r, fd = -1;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, scratch_thread, &fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_errno(err, r, "start a thread");
	pthread_join(thread, NULL);
	if (fd < 0)
		return err_errno(err, fd, "make a network namespace (needs CAP_SYS_ADMIN)");
	*ret_fd = fd;
	return 0;
}

/* The whole detour, around a TAP that stands for the instance's interface. */
static int try_detour(const struct node *node, struct err **err)
{
	static const char stand_in[] = LINK_TAP_PREFIX "probe";
	const struct node quiet = {.event = node->event, .name = node->name};
	const struct delay_shape shape = {.delay_ns = NS_PER_MS, .limit_bytes = 1 << 16};
	const struct net_rules none = {0};
	_cleanup_(detour_closep) struct detour *d = NULL;
	_cleanup_close_ int netns_fd = -1, tap_fd = -1;
	struct link_info link = {.mtu = 1500};
	int r;

	r = scratch_netns(&netns_fd, err);
	if (r < 0)
		return r;
	r = link_tap_open(netns_fd, stand_in, link.mtu, &tap_fd, &link.ifindex, err);
	if (r < 0)
		return r;
	memcpy(link.name, stand_in, sizeof(stand_in));
	return detour_open(&(struct detour_plan){
		.node = &quiet,
		.netns_fd = netns_fd,
		.links = &link,
		.n_links = 1,
		.in = true,
		.out = true,
		.position = 1,
		.rules = &none,
		.shape = &shape,
	}, &d, err);
}

static int net_shape_probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_err_ struct err *reason = NULL;
	int r = tcx_supported(&reason);

	if (r == 0)
		r = try_detour(node, &reason);
	if (r == -ENOMEM)
		return err_set(err, r, "%s", err_text(reason));
	*ret = (struct support){.supported = r == 0};
	if (r == 0)
		ret->mechanism = strdup("tcx, TAP and delay line");
	else
		ret->reason = strdup(err_text(reason));
	return 0;
}

const struct fault_driver driver_net_shape = {
	.spec = &fault_net_shape,
	.probe = net_shape_probe,
	.arm = net_shape_arm,
	.fire = net_shape_fire,
	.observe = net_shape_observe,
	.release = net_shape_release,
	.revert = net_shape_revert,
	.verify_clean = net_shape_verify_clean,
};
