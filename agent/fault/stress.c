#include "fault/stress.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"
#include "core/json.h"
#include "fault/proc_choice.h"
#include "kernel/cgroup.h"

void stress_free(struct stress *s)
{
	if (!s)
		return;
	if (s->done)
		s->done(s);
	workers_freep(&s->workers);
	group_target_done(&s->group);
	free(s->why_no_group);
	free(s);
}

static bool is_there(const char *folder)
{
	struct stat st;

	return stat(folder, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Not the v1 freezer: a worker in a group that is frozen there could not be killed. */
static void add_others(const struct instance_info *i, char ***folders)
{
	static const char *const hierarchies[] = {NULL, "cpu", "cpuacct", "cpuset", "memory", "blkio", "pids"};
	const struct proc_id id = {i->pid, i->start_ticks};

	for (size_t k = 0; k < ELEMENTS(hierarchies); k++) {
		_cleanup_free_ char *path = NULL, *folder = NULL;

		if (cgroup_of_controller(i->pid, hierarchies[k], &path, NULL) < 0 ||
		    cgroup_folder(hierarchies[k], path, &folder, NULL) < 0 ||
		    strcmp(path, "/") == 0 || !is_there(folder) || strv_contains(*folders, folder) ||
		    proc_check_group(&id, path, folder, NULL) < 0)
			continue;
		strv_push(folders, steal_ptr(folder));
	}
}

int stress_groups(struct stress *s, const struct instance_info *i, const struct stress_controller *c,
	char ***ret_folders, struct err **err)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	_cleanup_strv_ char **folders = NULL;
	const struct proc_id id = {i->pid, i->start_ticks};
	_cleanup_err_ struct err *why = NULL;
	size_t n;
	int r;

	r = proc_choose_group(&id, i->cluster_name, i->cgroup, &list, &n, err);
	if (r < 0)
		return r;
	r = group_target_find(i, c->name, c->v2_file, c->v1_file, &s->group, &why);
	if (r < 0 && (c->required || r != -EOPNOTSUPP))
		return err_set(err, r, "%s", err_text(why));
	if (r < 0)
		s->why_no_group = strdup(err_text(why));
	if (s->group.folder)
		strv_push(&folders, strdup(s->group.folder));
	add_others(i, &folders);
	if (strv_length(folders) == 0)
		return err_set(err, EOPNOTSUPP, "%s is in no control group that a worker could join",
			i->name);
	*ret_folders = steal_ptr(folders);
	return 0;
}

int stress_start(struct stress *s, const struct fault *f, const struct worker_job *job, char **folders,
	struct undo *ret, struct err **err)
{
	const char *name = f->driver->spec->name;
	int r;

	node_point(f->node, name, "forking");
	r = workers_new(job, folders, &s->workers, err);
	node_point(f->node, name, "forked");
	if (r < 0)
		return r;
	ret->record = json_object();
	json_add_item(ret->record, "workers", workers_record(s->workers));
	return 0;
}

int stress_fire(struct fault *f, struct err **err)
{
	struct stress *s = f->state;

	(void)err;
	node_point(f->node, f->driver->spec->name, "before-fire");
	s->fired_ns = now_ns();
	workers_go(s->workers);
	return 0;
}

void stress_release(struct fault *f)
{
	stress_free(f->state);
	f->state = NULL;
	node_point(f->node, f->driver->spec->name, "ended");
}

static void do_nothing(struct worker_page *page, size_t index, const void *argument)
{
	(void)index;
	(void)argument;
	atomic_store(&page->operations, 1);
}

int stress_probe(struct support *ret, struct err **err)
{
	const struct worker_job job = {.count = 1, .fd = -1, .run = do_nothing};
	_cleanup_(workers_freep) struct workers *w = NULL;
	_cleanup_err_ struct err *why = NULL;
	int r;

	(void)err;
	r = workers_new(&job, NULL, &w, &why);
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup("worker processes");
	else
		ret->reason = strdup(err_text(why));
	return 0;
}

static void add_ended(cJSON *list, pid_t pid, enum worker_end end, int signal, uint32_t failed)
{
	cJSON *item = json_object();

	json_add_int(item, "pid", pid);
	if (end == WORKER_KILLED)
		json_add_string(item, "killed_by", sigabbrev_np(signal));
	if (failed)
		json_add_string(item, "failed", strerrordesc_np((int)failed));
	json_append(list, item);
}

void stress_observe(const struct stress *s, struct stress_sum *ret, cJSON *detail)
{
	size_t n = workers_count(s->workers);
	cJSON *ended = json_array();
	struct stress_sum sum = {0};

	for (size_t i = 0; i < n; i++) {
		const struct worker_page *p = workers_page(s->workers, i);
		int signal = 0;
		enum worker_end end = workers_look(s->workers, i, &signal);

		sum.operations += atomic_load(&p->operations);
		sum.bytes += atomic_load(&p->bytes);
		sum.errors += atomic_load(&p->errors);
		sum.cpu_ns += atomic_load(&p->cpu_ns);
		sum.flags |= atomic_load(&p->flags);
		sum.running += end == WORKER_RUNS;
		if (end != WORKER_RUNS)
			add_ended(ended, workers_pid(s->workers, i), end, signal, atomic_load(&p->failed));
	}
	sum.elapsed_ns = s->fired_ns ? now_ns() - s->fired_ns : 0;
	json_add_uint(detail, "workers", n);
	json_add_uint(detail, "running", sum.running);
	json_add_item(detail, "ended", ended);
	*ret = sum;
}

/* Held: release(), or the agent's end, has killed them. */
int stress_revert(const struct undo *u, struct err **err)
{
	(void)u;
	(void)err;
	return 0;
}

int stress_verify(const struct undo *u, struct err **err)
{
	return workers_verify(json_get(u->record, "workers"), err);
}
