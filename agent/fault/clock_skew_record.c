#include "fault/clock_skew_record.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/clock_patch.h"
#include "fault/probe_process.h"
#include "hold/ptrace_hold.h"
#include "kernel/proc.h"
#include "kernel/vdso.h"

#define PROBE_SKEW_S  3600
#define PROBE_STOP_NS (500 * NS_PER_MS)
#define PROBE_TRIES   20
#define PROBE_WAIT_S  2

struct record {
	uint64_t token;
};

static const struct json_field record_fields[] = {
	{"token", JSON_UINT64, offsetof(struct record, token), true, NULL, NULL},
	JSON_FIELD_END,
};

int clock_token_draw(uint64_t *ret, struct err **err)
{
	uint64_t token;

	if (getrandom(&token, sizeof(token), 0) != sizeof(token))
		return err_errno(err, errno, "getrandom");
	*ret = (token >> 12) | (1ULL << 51);
	return 0;
}

cJSON *clock_record(uint64_t token)
{
	cJSON *record = json_object();

	json_add_uint(record, "token", token);
	return record;
}

static int record_read(const struct undo *u, struct record *ret, struct err **err)
{
	int r = u->record ? json_dispatch(u->record, record_fields, ret, JSON_REFUSE_UNKNOWN, err) :
			    err_set(err, EBADMSG, "there is no record");

	if (r >= 0 && ret->token == 0)
		r = err_set(err, EBADMSG, "token %" PRIu64, ret->token);
	return r < 0 ? err_wrap(err, EBADMSG, "record of clock-skew") : 0;
}

int clock_record_revert(const struct undo *u, struct err **err)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct record record = {0};
	int r;

	r = record_read(u, &record, err);
	if (r >= 0)
		r = vdso_own(&own, err);
	return r < 0 ? r : clock_patch_remove(&own, record.token, err);
}

int clock_record_verify(const struct undo *u, struct err **err)
{
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct record record = {0};
	pid_t pid;
	int r;

	r = record_read(u, &record, err);
	if (r >= 0)
		r = vdso_own(&own, err);
	if (r >= 0)
		r = clock_patch_find(&own, record.token, &pid, err);
	if (r < 0)
		return r;
	return pid ? err_set(err, EBUSY, "the vDSO of process %d is still patched", pid) : 0;
}

/* Something to try it on: answers each byte with what it takes for the time, and ends with us. */
static pid_t dummy_start(int fd)
{
	pid_t parent = getpid(), pid = fork();
	struct timespec t;
	char byte;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent && read(fd, &byte, 1) == 1) {
		if (clock_gettime(CLOCK_REALTIME, &t) < 0 || write(fd, &t, sizeof(t)) != sizeof(t))
			break;
	}
	_exit(0);
}

/* How far its clock is from ours, in seconds. */
static int dummy_ask(int fd, int64_t *ret, struct err **err)
{
	struct timespec t;

	if (send(fd, "?", 1, MSG_NOSIGNAL) != 1 || read(fd, &t, sizeof(t)) != sizeof(t))
		return err_errno(err, errno ? errno : EIO, "ask a process for the time");
	*ret = (int64_t)t.tv_sec - (int64_t)(realtime_ns() / NS_PER_S);
	return 0;
}

static int put_once(pid_t pid, const struct vdso_image *own, const struct vdso_patch *patch,
	uint64_t token, struct err **err)
{
	_cleanup_(ptrace_hold_freep) struct ptrace_hold *hold = NULL;
	size_t n = 0, n_new, running;
	struct proc_id id;
	int r;

	r = proc_identify(pid, &id, err);
	if (r >= 0)
		r = ptrace_hold_new(&hold, err);
	if (r >= 0)
		r = ptrace_hold_seize(hold, &id, 1, &n_new, err);
	if (r >= 0)
		r = ptrace_hold_stop(hold, PROBE_STOP_NS, &running);
	if (r >= 0)
		r = clock_patch_put(hold, own, patch, token, &n, err);
	return r < 0 || n == 1 ? r : err_set(err, EOPNOTSUPP, "its vDSO cannot be written");
}

static bool is_near(int64_t a, int64_t b)
{
	return a - b <= PROBE_WAIT_S && b - a <= PROBE_WAIT_S;
}

static int try_patch(pid_t pid, int fd, const struct vdso_image *own, const struct vdso_patch *patch,
	uint64_t token, struct err **err)
{
	int64_t seconds = 0;
	int r = -EAGAIN;

	for (int i = 0; i < PROBE_TRIES && r == -EAGAIN; i++)
		r = put_once(pid, own, patch, token, err);
	if (r >= 0)
		r = dummy_ask(fd, &seconds, err);
	if (r >= 0 && !is_near(seconds, PROBE_SKEW_S))
		r = err_set(err, EOPNOTSUPP, "a process that was skewed by %d s was off by %" PRId64 " s",
			PROBE_SKEW_S, seconds);
	if (r >= 0)
		r = clock_patch_remove(own, token, err);
	if (r >= 0)
		r = dummy_ask(fd, &seconds, err);
	if (r >= 0 && !is_near(seconds, 0))
		r = err_set(err, EIO, "a clock was off by %" PRId64 " s after its skew ended", seconds);
	return r;
}

static int try_on_dummy(const struct vdso_image *own, const struct vdso_patch *patch, uint64_t token,
	struct err **err)
{
	struct timeval limit = {.tv_sec = PROBE_WAIT_S};
	int fds[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, errno, "socketpair");
	setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	pid = dummy_start(fds[1]);
	if (pid < 0) {
		r = err_errno(err, errno, "start a process to try it on");
	} else {
		r = try_patch(pid, fds[0], own, patch, token, err);
		probe_process_end(pid);
	}
	close(fds[0]);
	close(fds[1]);
	return r;
}

static int try_all(const char **ret_mechanism, const char **ret_remark, struct err **err)
{
	_cleanup_(vdso_patch_done) struct vdso_patch patch = {0};
	_cleanup_(vdso_image_done) struct vdso_image own = {0};
	struct vdso_skew skew = {
		.length_ns = 60 * NS_PER_S,
		.offset_ns = PROBE_SKEW_S * (int64_t)NS_PER_S,
	};
	int r;

	for (size_t i = 0; i < VDSO_CLOCKS; i++)
		skew.start_ns[i] = UINT64_MAX;
	skew.start_ns[CLOCK_REALTIME] = realtime_ns();
	r = clock_token_draw(&skew.token, err);
	if (r >= 0)
		r = vdso_own(&own, err);
	if (r >= 0)
		r = vdso_patch_build(&own, &skew, false, &patch, err);
	if (r < 0)
		return r;
	*ret_mechanism = patch.mechanism;
	*ret_remark = patch.remark;
	return try_on_dummy(&own, &patch, skew.token, err);
}

int clock_probe(const struct node *node, struct support *ret, struct err **err)
{
	const char *mechanism = NULL, *remark = NULL;
	_cleanup_err_ struct err *why = NULL;
	int r;

	(void)node, (void)err;
	r = try_all(&mechanism, &remark, &why);
	if (r >= 0 && !proc_has_capability(CAP_SYS_PTRACE))
		r = err_set(&why, EPERM, "CAP_SYS_PTRACE is missing");
	ret->supported = r >= 0;
	if (r >= 0) {
		ret->mechanism = strdup(mechanism);
		ret->reason = remark ? strdup(remark) : NULL;
	} else {
		ret->reason = strdup(err_text(why));
	}
	return 0;
}
