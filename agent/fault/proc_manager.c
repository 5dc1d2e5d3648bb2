/* The processes that manage an instance. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "fault/proc_named.h"
#include "instance/describe.h"
#include "instance/manager_process.h"

#define COMMAND_LINE_MAX (16UL << 10)
#define SHOWN_MAX	 6
#define ANCESTORS_MAX	 64

struct found {
	struct proc_choice *list;
	size_t count, room;
	char others[256];	/* what is there instead */
	size_t n_others;
};

static void found_done(struct found *f)
{
	free(f->list);
}

static const char *name_of(pid_t pid)
{
	_cleanup_free_ char *line = NULL;
	size_t length = 0;

	if (proc_read_file(pid, "cmdline", COMMAND_LINE_MAX, &line, &length, NULL) < 0)
		return NULL;
	return manager_process_name(line, length);
}

static void note_other(struct found *f, const struct proc_stat *s)
{
	size_t n = strlen(f->others);

	if (f->n_others++ < SHOWN_MAX)
		snprintf(f->others + n, sizeof(f->others) - n, "%s%s", n ? ", " : "", s->comm);
}

static int consider(struct found *f, const struct proc_id *id, struct err **err)
{
	struct proc_stat s;
	const char *name;

	for (size_t i = 0; i < f->count; i++)
		if (f->list[i].id.pid == id->pid)
			return 0;
	if (id->pid <= 1 || id->pid == getpid() || proc_read_stat(id->pid, &s, NULL) < 0 ||
	    s.state == 'Z' || proc_is_worker(&s))
		return 0;
	name = name_of(id->pid);
	if (!name) {
		note_other(f, &s);
		return 0;
	}
	if (f->count == f->room) {
		struct proc_choice *more;

		f->room = f->room ? f->room * 2 : 8;
		more = reallocarray(f->list, f->room, sizeof(*more));
		if (!more)
			return err_errno(err, ENOMEM, "choose processes");
		f->list = more;
	}
	f->list[f->count++] = (struct proc_choice){.id = s.id, .kind = name};
	return 0;
}

static int consider_ancestors(struct found *f, pid_t pid, struct err **err)
{
	struct proc_stat s;
	struct proc_id id;
	int r = 0;

	for (int n = 0; r >= 0 && n < ANCESTORS_MAX; n++) {
		if (proc_read_stat(pid, &s, NULL) < 0 || s.ppid <= 1)
			break;
		pid = s.ppid;
		if (proc_identify(pid, &id, NULL) == 0)
			r = consider(f, &id, err);
	}
	return r;
}

static bool in_tree(const struct proc_choice *tree, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (tree[i].id.pid == pid)
			return true;
	return false;
}

/* All of a container but PostgreSQL; two servers in one would each have the other's manager too. */
static int consider_container(struct found *f, uint64_t namespace, const struct proc_choice *tree,
	size_t n_tree, struct err **err)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	r = proc_pids(&pids, &n, err);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		struct proc_id id;
		uint64_t its;

		if (in_tree(tree, n_tree, pids[i]) || proc_namespace(pids[i], "pid", &its, NULL) < 0 ||
		    its != namespace || proc_identify(pids[i], &id, NULL) < 0)
			continue;
		if (instance_is_postmaster(pids[i]))
			return err_set(err, EPERM, "another postmaster (process %d) shares the "
				"instance's pid namespace: whose manager is whose cannot be told", pids[i]);
		r = consider(f, &id, err);
	}
	return r;
}

/* In a cgroup that others share only the postmaster's ancestors can be told to be its own. */
static int consider_group(struct found *f, const struct proc_id *postmaster,
	const struct instance_info *instance, const struct proc_choice *tree, size_t n_tree,
	struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	_cleanup_err_ struct err *shared = NULL;
	size_t n = 0;
	int r;

	r = proc_choose_group(postmaster, instance->cluster_name, instance->cgroup, &list, &n, &shared);
	if (r < 0 && f->count == 0)
		return err_set(err, r, "%s", err_text(shared));
	r = 0;
	for (size_t i = 0; r >= 0 && i < n; i++)
		if (!in_tree(tree, n_tree, list[i].id.pid))
			r = consider(f, &list[i].id, err);
	return r;
}

/* "NSpid: 4711 1": its number here, and last the one in its innermost pid namespace; NULL if that is
 * ours. Caller frees. */
static char *inner_pid(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	const char *last = NULL;

	if (proc_status_field(pid, "NSpid", &text, NULL) == 0)
		last = strrchr(text, '\t');
	return last ? strdup(last + 1) : NULL;
}

static bool is_first(pid_t pid)
{
	_cleanup_free_ char *inner = inner_pid(pid);

	return inner && strcmp(inner, "1") == 0;
}

static void drop_first(struct found *f)
{
	size_t kept = 0;

	for (size_t i = 0; f->count > 1 && i < f->count; i++)
		if (!is_first(f->list[i].id.pid))
			f->list[kept++] = f->list[i];
	if (kept > 0)
		f->count = kept;
}

int proc_choose_manager(const struct proc_id *postmaster, const struct instance_info *instance,
	struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_choice *tree = NULL;
	_cleanup_(found_done) struct found f = {0};
	_cleanup_free_ char *inner = inner_pid(postmaster->pid);
	uint64_t own = 0;
	size_t n_tree = 0;
	int r;

	r = proc_choose_tree(postmaster, instance->cluster_name, &tree, &n_tree, err);
	if (r >= 0)
		r = proc_namespace(postmaster->pid, "pid", &own, err);
	if (r >= 0)
		r = consider_ancestors(&f, postmaster->pid, err);
	if (r >= 0 && inner)
		r = consider_container(&f, own, tree, n_tree, err);
	else if (r >= 0)
		r = consider_group(&f, postmaster, instance, tree, n_tree, err);
	if (r < 0)
		return r == -ESRCH ? err_wrap(err, -ESTALE, "look for the manager") : r;
	if (f.count == 0)
		return err_set(err, ENOENT, "no manager of %s that is known (%s); beside PostgreSQL "
			"there: %s", instance->name, manager_process_names(),
			f.n_others ? f.others : "nothing");
	drop_first(&f);
	*ret = steal_ptr(f.list);
	*ret_count = f.count;
	return 0;
}
