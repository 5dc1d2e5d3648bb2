/*
 * proc-kill: signals to processes of an instance, each through a pidfd of that very process. Nothing
 * is held but the timer that repeats it: the agent's death ends that, and what was killed stays so.
 */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "core/units.h"
#include "fault/fault.h"
#include "fault/proc_choice.h"
#include "fault/proc_named.h"
#include "instance/instance.h"
#include "fault/rounds.h"
#include "fault/share.h"
#include "kernel/proc.h"

#define FAULT	   "proc-kill"
#define LISTED_MAX 64

enum which { WHICH_POSTMASTER, WHICH_ALL, WHICH_TITLE, WHICH_MANAGER };

struct kill {
	const struct fault *fault;
	struct proc_id postmaster;	/* the present one: it changes when it is started again */
	int pidfd;			/* of the postmaster that was armed; -1 once it was used */
	enum which which;
	int signal;
	uint64_t percent_ppm, most;	/* most: 0 for any number */
	struct rounds rounds;

	uint64_t hits, matched;
	struct proc_choice listed[LISTED_MAX];
	size_t n_listed;
};

static void kill_free(struct kill *k)
{
	rounds_done(&k->rounds);
	if (k->pidfd >= 0)
		close(k->pidfd);
	free(k);
}
DEFINE_CLEANUP(struct kill, kill_free)

static int probe(const struct node *node, struct support *ret, struct err **err)
{
	_cleanup_close_ int fd = -1;

	(void)node;
	(void)err;
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		ret->reason = strdup("pidfd_open(2) fails: it needs Linux 5.3");
	else if (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) < 0)
		ret->reason = strdup("pidfd_send_signal(2) fails: it needs Linux 5.1");
	else if (!proc_has_capability(CAP_KILL))
		ret->reason = strdup("CAP_KILL is missing");
	else
		ret->mechanism = strdup("pidfd");
	ret->supported = ret->mechanism;
	return 0;
}

static int kill_round(void *data, struct err **err);

static int choose(const struct kill *k, struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	const struct instance_info *i = k->fault->instance;

	switch (k->which) {
	case WHICH_MANAGER:
		return proc_choose_manager(&k->postmaster, i, ret, ret_count, err);
	case WHICH_TITLE:
		return proc_choose_named(&k->postmaster, i, k->fault->params, ret, ret_count, err);
	case WHICH_ALL:
	case WHICH_POSTMASTER:
	default:
		return proc_choose_tree(&k->postmaster, i->cluster_name, ret, ret_count, err);
	}
}

/* What firing would be unable to find shows now. */
static int look(const struct kill *k, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	size_t n;

	return choose(k, &list, &n, err);
}

static int arm(struct fault *f, struct undo *ret, struct err **err)
{
	_cleanup_(kill_freep) struct kill *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_errno(err, ENOMEM, "arm " FAULT);
	k->pidfd = -1;
	k->fault = f;
	k->postmaster = (struct proc_id){f->instance->pid, f->instance->start_ticks};
	k->which = (enum which)params_number(f->params, "process");
	k->signal = (int)params_number(f->params, "signal");
	k->rounds = (struct rounds){
		.every_ns = params_number(f->params, "every"),
		.strike = kill_round,
		.data = k,
	};
	k->percent_ppm = params_number(f->params, "percent");
	k->most = params_number(f->params, "count");
	if (k->postmaster.pid <= 1)
		return err_set(err, EPERM, "the node's PID 1 is never a target");
	if (!proc_is_alive(&k->postmaster))
		return err_set(err, ESTALE, "postmaster %d is gone", k->postmaster.pid);
	node_point(f->node, FAULT, "arming");
	r = proc_pidfd(&k->postmaster, &k->pidfd, err);
	if (r >= 0)
		r = look(k, err);
	if (r < 0)
		return r == -ESRCH ? err_wrap(err, ESTALE, "arm " FAULT) : r;
	node_point(f->node, FAULT, "armed");
	ret->record = json_object();
	f->state = steal_ptr(k);
	f->mechanism = "pidfd";
	f->lifetime = LIFETIME_HELD;
	return 0;
}

static void hit(struct kill *k, const struct proc_choice *c)
{
	k->hits++;
	if (k->n_listed < LISTED_MAX)
		k->listed[k->n_listed++] = *c;
}

/* The postmaster that was armed: its descriptor has been waiting. */
static int signal_postmaster(struct kill *k, struct err **err)
{
	struct proc_choice c = {.id = k->postmaster, .kind = "postmaster"};
	int fd = steal_fd(&k->pidfd), r, code;

	if (fd < 0) {
		r = proc_signal(&k->postmaster, k->signal, err);
	} else {
		r = syscall(SYS_pidfd_send_signal, fd, k->signal, NULL, 0) < 0 ? -1 : 0;
		code = errno;
		close(fd);
		if (r < 0)
			r = err_errno(err, code, "signal the postmaster");
	}
	if (r >= 0) {
		k->matched++;
		hit(k, &c);
	}
	return r == -ESRCH ? 0 : r;
}

/* A restarted postmaster is another process under the same name. */
static int find_postmaster(struct kill *k, struct err **err)
{
	_cleanup_(instance_info_freep) struct instance_info *i = NULL;
	int r;

	if (proc_is_alive(&k->postmaster))
		return 0;
	r = instance_find(k->fault->node->name, k->fault->instance->name, &i, err);
	if (r < 0)
		return r;
	k->postmaster = (struct proc_id){i->pid, i->start_ticks};
	return 0;
}

static int signal_chosen(struct kill *k, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	size_t n;
	int r;

	r = choose(k, &list, &n, err);
	if (r < 0)
		return r;
	k->matched += n;
	n = share_pick(list, n, sizeof(*list), k->percent_ppm, k->most);
	for (size_t i = 0; i < n; i++) {
		struct err *why = NULL;

		r = proc_signal(&list[i].id, k->signal, &why);
		if (r >= 0) {
			hit(k, &list[i]);
		} else if (r != -ESRCH) {
			err_free(*err);
			*err = why;
			return r;
		}
		err_free(why);
	}
	return 0;
}

static int kill_round(void *data, struct err **err)
{
	struct kill *k = data;
	int r;

	r = find_postmaster(k, err);
	if (r < 0)
		return r;
	node_point(k->fault->node, FAULT, "firing");
	r = k->which == WHICH_POSTMASTER ? signal_postmaster(k, err) : signal_chosen(k, err);
	node_point(k->fault->node, FAULT, "fired");
	return r;
}

static int fire(struct fault *f, struct err **err)
{
	struct kill *k = f->state;

	return rounds_begin(&k->rounds, f->node, err);
}

static int observe(const struct fault *f, struct evidence *ret, struct err **err)
{
	const struct kill *k = f->state;

	(void)err;
	ret->hits = k->hits;
	ret->detail = json_object();
	json_add_int(ret->detail, "signal", k->signal);
	json_add_uint(ret->detail, "rounds", k->rounds.count);
	json_add_uint(ret->detail, "matched", k->matched);
	json_add_item(ret->detail, "processes", proc_choices_to_json(k->listed, k->n_listed, LISTED_MAX));
	json_add_uint(ret->detail, "not_listed", k->hits - k->n_listed);
	if (k->rounds.last)
		json_add_string(ret->detail, "last_round", err_text(k->rounds.last));
	return 0;
}

static void release(struct fault *f)
{
	kill_free(f->state);
	f->state = NULL;
}

/* What was struck stays struck, and the timer ends with release(): no revert. */
const struct fault_driver driver_proc_kill = {
	.spec = &fault_proc_kill,
	.probe = probe,
	.arm = arm,
	.fire = fire,
	.observe = observe,
	.release = release,
};
