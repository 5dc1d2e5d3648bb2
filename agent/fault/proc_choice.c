#include "fault/proc_choice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "hold/worker.h"
#include "instance/describe.h"
#include "instance/instance.h"
#include "instance/process_kind.h"
#include "kernel/cgroup.h"

#define ANCESTORS_MAX 64

static const char *kind_of(pid_t pid, const char *cluster)
{
	_cleanup_free_ char *title = NULL;
	const char *kind = NULL;

	if (proc_title(pid, &title, NULL) == 0)
		kind = instance_process_kind(title, cluster, NULL);
	return kind ? kind : "other";
}

static int check_postmaster(const struct proc_id *postmaster, struct err **err)
{
	if (postmaster->pid <= 1)
		return err_set(err, EPERM, "the node's PID 1 is never a target");
	if (!proc_is_alive(postmaster))
		return err_set(err, ESTALE, "postmaster %d is gone", postmaster->pid);
	return 0;
}

static int tree_ids(const struct proc_id *postmaster, struct proc_id **ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n;
	int r;

	r = check_postmaster(postmaster, err);
	if (r >= 0)
		r = proc_tree(postmaster->pid, &ids, &n, err);
	if (r == -ESRCH || (r >= 0 && ids[0].start_ticks != postmaster->start_ticks))
		return err_set(err, ESTALE, "postmaster %d is gone", postmaster->pid);
	if (r < 0)
		return r;
	*ret = steal_ptr(ids);
	*ret_count = n;
	return 0;
}

bool proc_is_worker(const struct proc_stat *s)
{
	return s->ppid == getpid() && strcmp(s->comm, WORKER_NAME) == 0;
}

static bool is_worker(pid_t pid)
{
	struct proc_stat s;

	return proc_read_stat(pid, &s, NULL) == 0 && proc_is_worker(&s);
}

/* The agent is left out, wherever it was started from. */
static int choices_from(const struct proc_id *ids, size_t n, const char *cluster,
	struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	struct proc_choice *list = calloc(n + 1, sizeof(*list));
	size_t count = 0;

	if (!list)
		return err_errno(err, ENOMEM, "choose processes");
	for (size_t i = 0; i < n; i++)
		if (ids[i].pid > 1 && ids[i].pid != getpid() && !is_worker(ids[i].pid))
			list[count++] = (struct proc_choice){
				.id = ids[i], .kind = kind_of(ids[i].pid, cluster)};
	*ret = list;
	*ret_count = count;
	return 0;
}

int proc_choose_tree(const struct proc_id *postmaster, const char *cluster, struct proc_choice **ret,
	size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n = 0;
	int r;

	r = tree_ids(postmaster, &ids, &n, err);
	return r < 0 ? r : choices_from(ids, n, cluster, ret, ret_count, err);
}

/* A child has its parent's title until it sets its own: "postmaster" is the postmaster alone. */
static bool is_named(const struct proc_id *id, const struct proc_id *postmaster, const char *cluster,
	char *const *titles)
{
	_cleanup_free_ char *title = NULL;

	if (proc_title(id->pid, &title, NULL) < 0 || !process_title_matches(title, cluster, titles))
		return false;
	return id->pid == postmaster->pid || process_title_rest(title, cluster);
}

int proc_choose_titles(const struct proc_id *postmaster, const char *cluster, char *const *titles,
	struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n, kept = 0;
	int r;

	r = tree_ids(postmaster, &ids, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (is_named(&ids[i], postmaster, cluster, titles))
			ids[kept++] = ids[i];
	return choices_from(ids, kept, cluster, ret, ret_count, err);
}

static bool ids_have(const struct proc_id *ids, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i].pid == pid)
			return true;
	return false;
}

static size_t ancestors_of(pid_t pid, struct proc_id ret[static ANCESTORS_MAX])
{
	struct proc_stat s;
	size_t n = 0;

	while (n < ANCESTORS_MAX && proc_read_stat(pid, &s, NULL) == 0 && s.ppid > 0) {
		pid = s.ppid;
		if (proc_identify(pid, &ret[n], NULL) == 0)
			n++;
	}
	return n;
}

static bool same_namespace(pid_t a, pid_t b, const char *name)
{
	uint64_t x, y;

	return proc_namespace(a, name, &x, NULL) == 0 && proc_namespace(b, name, &y, NULL) == 0 &&
	       x == y;
}

static bool is_service(const char *cgroup)
{
	size_t n = strlen(cgroup);

	return n > 8 && strcmp(cgroup + n - 8, ".service") == 0 && !strstr(cgroup, "/user.slice/");
}

struct group_check {
	const struct proc_id *postmaster;
	const char *cgroup;
	const char *hint;		/* for those who are refused; may be "" */
	bool container, service;
	struct proc_id *tree;
	size_t n_tree;
	struct proc_id ancestors[ANCESTORS_MAX];
	size_t n_ancestors;
};

static bool belongs(const struct group_check *g, pid_t pid)
{
	if (g->service || ids_have(g->tree, g->n_tree, pid) ||
	    ids_have(g->ancestors, g->n_ancestors, pid))
		return true;
	return g->container && (same_namespace(pid, g->postmaster->pid, "pid") ||
				same_namespace(pid, g->postmaster->pid, "mnt"));
}

static int check_member(const struct group_check *g, const struct proc_id *id, struct err **err)
{
	struct proc_stat s;

	if (id->pid == 1 || id->pid == getpid())
		return err_set(err, EPERM, "cgroup %s holds %s%s", g->cgroup,
			id->pid == 1 ? "the node's PID 1" : "the agent itself", g->hint);
	if (ids_have(g->tree, g->n_tree, id->pid) || proc_read_stat(id->pid, &s, NULL) < 0)
		return 0;
	if (instance_is_postmaster(id->pid))
		return err_set(err, EPERM, "cgroup %s holds another postmaster (process %d)%s",
			g->cgroup, id->pid, g->hint);
	/* A process that is on its way out has no namespaces to compare. */
	if (s.state == 'Z' || s.state == 'X' || proc_is_worker(&s) || belongs(g, id->pid) || !proc_is_alive(id))
		return 0;
	return err_set(err, EPERM,
		"cgroup %s is not the instance's own: it holds process %d (%s), which is not of this "
		"instance%s", g->cgroup, id->pid, s.comm, g->hint);
}

/* members: all of the group's processes. */
static int check_group(const struct proc_id *postmaster, const char *cgroup, const char *hint,
	const struct proc_id *members, size_t n, struct err **err)
{
	struct group_check g = {.postmaster = postmaster, .cgroup = cgroup, .hint = hint};
	_cleanup_free_ struct proc_id *tree = NULL;
	int r;

	r = tree_ids(postmaster, &tree, &g.n_tree, err);
	if (r < 0)
		return r;
	g.tree = tree;
	g.n_ancestors = ancestors_of(postmaster->pid, g.ancestors);
	/* Our own view ends at our pid namespace; with the node's, PID 1 is the node's. */
	g.container = !same_namespace(postmaster->pid, 1, "pid");
	g.service = !g.container && is_service(cgroup);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = check_member(&g, &members[i], err);
	if (r >= 0 && !ids_have(members, n, postmaster->pid))
		r = err_set(err, ESTALE, "postmaster %d has left cgroup %s", postmaster->pid, cgroup);
	return r;
}

int proc_choose_group(const struct proc_id *postmaster, const char *cluster, const char *cgroup,
	struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_id *members = NULL;
	size_t n;
	int r;

	if (strcmp(cgroup, "/") == 0)
		return err_set(err, EPERM,
			"the instance is in the root cgroup, which is all of the node's: use "
			"processes=postgres");
	r = check_postmaster(postmaster, err);
	if (r >= 0)
		r = cgroup_processes(cgroup, &members, &n, err);
	if (r >= 0)
		r = check_group(postmaster, cgroup, ": use processes=postgres", members, n, err);
	return r < 0 ? r : choices_from(members, n, cluster, ret, ret_count, err);
}

int proc_check_group(const struct proc_id *postmaster, const char *cgroup, const char *folder,
	struct err **err)
{
	_cleanup_free_ struct proc_id *members = NULL;
	size_t n;
	int r;

	if (strcmp(cgroup, "/") == 0)
		return err_set(err, EPERM, "the instance is in the root cgroup (%s), which is all of the node's",
			folder);
	r = check_postmaster(postmaster, err);
	if (r >= 0)
		r = cgroup_folder_processes(folder, &members, &n, err);
	return r < 0 ? r : check_group(postmaster, cgroup, "", members, n, err);
}

cJSON *proc_choices_to_json(const struct proc_choice *list, size_t count, size_t max)
{
	cJSON *array = json_array();

	for (size_t i = 0; i < count && i < max; i++) {
		cJSON *item = json_object();

		json_add_int(item, "pid", list[i].id.pid);
		json_add_string(item, "kind", list[i].kind);
		json_append(array, item);
	}
	return array;
}
