#include "fault/net_shape_record.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "kernel/netns.h"
#include "kernel/proc.h"
#include "kernel/tcx.h"

/* Programs leave after a grace period of RCU, interfaces after one of rtnetlink. */
#define CLEAN_WITHIN_NS (2 * NS_PER_S)
#define CLEAN_POLL_NS	(2 * NS_PER_MS)

static cJSON *record_of(const struct fault *f, const struct net_target *target,
	const struct detour *d, const uint32_t ids[DETOUR_PROGRAMS])
{
	cJSON *record = json_object(), *taps = json_array(), *programs = json_array();

	json_add_uint(record, "netns", target->netns);
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
	return 0;
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
int detour_position_take(int netns_fd, uint32_t *ret, struct err **err)
{
	_cleanup_free_ struct link_info *links = NULL;
	uint32_t position;
	size_t count = 0;
	int r = link_list(netns_fd, &links, &count, err);

	if (r < 0)
		return r;
	r = net_position_take(&position, err);
	while (r == 0 && is_taken(links, count, position)) {
		uint32_t passed = position;

		r = net_position_take(&position, err);
		net_position_drop(passed);
	}
	if (r < 0)
		return r;
	*ret = position;
	return 0;
}

/* The record, read back. It comes from a file. */
struct detour_record {
	uint64_t netns, start_ticks;
	pid_t pid;
	char **taps;
	cJSON *programs;
};

static void detour_record_done(struct detour_record *r)
{
	strv_free(r->taps);
	cJSON_Delete(r->programs);
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
static int find_netns(const struct detour_record *record, int *ret_fd, struct err **err)
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
static int look_for_remains(const struct detour_record *record, int netns_fd, struct err **err)
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

int detour_verify_clean(const struct undo *u, struct err **err)
{
	_cleanup_(detour_record_done) struct detour_record record = {0};
	const struct timespec pause = {.tv_nsec = CLEAN_POLL_NS};
	uint64_t until = now_ns() + CLEAN_WITHIN_NS;
	_cleanup_close_ int netns_fd = -1;
	int r = detour_record_read(u->record, &record, err);

	if (r < 0)
		return err_wrap(err, EBADMSG, "record of %s", u->spec->name);
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
		.fault = "probe",
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

int detour_probe(const struct node *node, struct support *ret, struct err **err)
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
