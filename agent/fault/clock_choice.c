#include "fault/clock_choice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "instance/instance.h"
#include "kernel/cgroup.h"

/* Once the postmaster is gone its cgroup is what there is left, which was checked while it lived. */
static int choose_orphans(const struct instance_info *instance, struct proc_choice **ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n = 0, count = 0;
	int r;

	r = cgroup_processes(instance->cgroup, &ids, &n, err);
	if (r < 0)
		return r;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_errno(err, ENOMEM, "choose processes");
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *title = NULL;
		const char *kind = NULL;

		if (ids[i].pid <= 1 || ids[i].pid == getpid())
			continue;
		if (proc_title(ids[i].pid, &title, NULL) >= 0)
			kind = instance_process_kind(title, instance->cluster_name, NULL);
		list[count++] = (struct proc_choice){ids[i], kind ? kind : "other"};
	}
	*ret = steal_ptr(list);
	*ret_count = count;
	return 0;
}

static bool is_chosen(const struct proc_choice *list, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].id.pid == pid)
			return true;
	return false;
}

/* What of the group is not PostgreSQL's. */
static int keep_manager(const struct proc_id *postmaster, const char *cluster,
	struct proc_choice *list, size_t *count, struct err **err)
{
	_cleanup_free_ struct proc_choice *tree = NULL;
	size_t n_tree = 0, kept = 0;
	int r = 0;

	if (proc_is_alive(postmaster))
		r = proc_choose_tree(postmaster, cluster, &tree, &n_tree, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < *count; i++)
		if (strcmp(list[i].kind, "other") == 0 && !is_chosen(tree, n_tree, list[i].id.pid))
			list[kept++] = list[i];
	*count = kept;
	return 0;
}

int clock_choose(const struct proc_id *postmaster, const struct instance_info *instance,
	enum clock_choice which, struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	const char *cluster = instance->cluster_name;
	size_t n = 0;
	int r;

	if (which == CLOCK_CHOICE_POSTGRES)
		return proc_choose_tree(postmaster, cluster, ret, ret_count, err);
	if (proc_is_alive(postmaster))
		r = proc_choose_group(postmaster, cluster, instance->cgroup, &list, &n, err);
	else
		r = choose_orphans(instance, &list, &n, err);
	if (r >= 0 && which == CLOCK_CHOICE_MANAGER)
		r = keep_manager(postmaster, cluster, list, &n, err);
	if (r < 0)
		return r;
	*ret = steal_ptr(list);
	*ret_count = n;
	return 0;
}
