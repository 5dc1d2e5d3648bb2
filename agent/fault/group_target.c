#include "fault/group_target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "fault/proc_choice.h"
#include "kernel/cgroup.h"

void group_target_done(struct group_target *g)
{
	free(g->path);
	free(g->folder);
	*g = (struct group_target){0};
}

static bool has_file(const char *folder, const char *name)
{
	_cleanup_free_ char *file = NULL;

	if (asprintf(&file, "%s/%s", folder, name) < 0) {
		file = NULL;
		return false;
	}
	return access(file, R_OK | W_OK) == 0;
}

/* Is the file there, in the hierarchy of the controller (NULL: v2)? */
static int find_in(pid_t pid, const char *controller, const char *name, struct group_target *ret,
	struct err **err)
{
	_cleanup_(group_target_done) struct group_target g = {.v2 = !controller};
	int r;

	r = cgroup_of_controller(pid, controller, &g.path, err);
	if (r >= 0)
		r = cgroup_folder(controller, g.path, &g.folder, err);
	if (r < 0)
		return r;
	/* The root has no limits in v2, and in v1 it is refused in words of its own. */
	if (!has_file(g.folder, name))
		return err_set(err, EOPNOTSUPP, "%s has no %s", g.folder, name);
	*ret = g;
	g = (struct group_target){0};
	return 0;
}

int group_target_find(const struct instance_info *i, const char *controller, const char *v2_file,
	const char *v1_file, struct group_target *ret, struct err **err)
{
	const struct proc_id id = {i->pid, i->start_ticks};
	_cleanup_(group_target_done) struct group_target g = {0};
	_cleanup_err_ struct err *why2 = NULL, *why1 = NULL;
	int r;

	r = find_in(i->pid, NULL, v2_file, &g, &why2);
	if (r < 0)
		r = find_in(i->pid, controller, v1_file, &g, &why1);
	if (!proc_is_alive(&id))
		return err_set(err, ESTALE, "%s (pid %d) is gone", i->name, (int)i->pid);
	if (r < 0)
		return err_set(err, EOPNOTSUPP,
			"the group of %s has neither %s (cgroup v2 with the %s controller: %s) nor %s (v1: %s)",
			i->name, v2_file, controller, err_text(why2), v1_file, err_text(why1));
	r = proc_check_group(&id, g.path, g.folder, err);
	if (r < 0)
		return r;
	*ret = g;
	g = (struct group_target){0};
	return 0;
}

static int try_in(const char *controller, const char *name, struct err **err)
{
	_cleanup_free_ char *folder = NULL;
	char path[64];
	bool there;
	int r;

	snprintf(path, sizeof(path), "/pgjolt-probe-%d", (int)getpid());
	r = cgroup_folder(controller, path, &folder, err);
	if (r < 0)
		return r;
	if (mkdir(folder, 0755) < 0 && errno != EEXIST)
		return err_errno(err, errno, "make %s", folder);
	there = has_file(folder, name);
	if (rmdir(folder) < 0)
		return err_errno(err, errno, "remove %s", folder);
	return there ? 0 : err_set(err, EOPNOTSUPP, "a new group has no %s", name);
}

int group_controller_probe(const char *controller, const char *v2_file, const char *v1_file,
	const char **ret, struct err **err)
{
	_cleanup_err_ struct err *why2 = NULL, *why1 = NULL;

	if (try_in(NULL, v2_file, &why2) >= 0)
		*ret = "cgroup v2";
	else if (try_in(controller, v1_file, &why1) >= 0)
		*ret = "cgroup v1";
	else
		return err_set(err, EOPNOTSUPP, "neither cgroup v2 with the %s controller (%s) nor v1 (%s)",
			controller, err_text(why2), err_text(why1));
	return 0;
}

bool group_target_is_gone(const struct fault *f)
{
	_cleanup_free_ struct proc_id *ids = NULL;
	size_t n;

	if (cgroup_processes(f->instance->cgroup, &ids, &n, NULL) < 0)
		return true;
	for (size_t i = 0; i < n; i++) {
		struct proc_stat s;

		if (proc_read_stat(ids[i].pid, &s, NULL) == 0 && !proc_is_worker(&s) &&
		    s.state != 'Z' && s.state != 'X')
			return false;
	}
	return true;
}
