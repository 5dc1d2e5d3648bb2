#include "instance/instance.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "core/cleanup.h"
#include "instance/dcs.h"
#include "instance/resolver.h"
#include "instance/describe.h"
#include "kernel/proc.h"

#define NAMES_IN_ERROR 20

/* The program's own name, where it also may have been replaced by an upgrade while it runs. */
static bool is_postgres(pid_t pid)
{
	static const char deleted[] = " (deleted)";
	_cleanup_free_ char *exe = NULL;
	const char *base;
	size_t n;

	if (proc_read_link(pid, "exe", &exe, NULL) < 0)
		return false;
	n = strlen(exe);
	if (n >= sizeof(deleted) && strcmp(exe + n - (sizeof(deleted) - 1), deleted) == 0)
		exe[n - (sizeof(deleted) - 1)] = '\0';
	base = strrchr(exe, '/');
	base = base ? base + 1 : exe;
	return strcmp(base, "postgres") == 0 || strcmp(base, "postmaster") == 0;
}

static int find_candidates(struct candidate **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct candidate *list = NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n, count = 0, room = 0;
	int r;

	r = proc_pids(&pids, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct candidate c = {0};

		if (!is_postgres(pids[i]) || proc_read_stat(pids[i], &c.stat, NULL) < 0 ||
		    c.stat.state == 'Z' || c.stat.state == 'X')
			continue;
		if (count == room) {
			struct candidate *more;

			room = room ? room * 2 : 32;
			more = reallocarray(list, room, sizeof(*more));
			if (!more)
				return err_errno(err, ENOMEM, "scan for instances");
			list = more;
		}
		list[count++] = c;
	}
	*ret = steal_ptr(list);
	*ret_count = count;
	return 0;
}

static const struct candidate *candidate_of(const struct candidate *all, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (all[i].stat.id.pid == pid)
			return &all[i];
	return NULL;
}

/* Backends are many: those whose parent is a postmaster are never looked at closer. */
static void mark_postmasters(struct candidate *all, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!candidate_of(all, count, all[i].stat.ppid))
			all[i].is_postmaster = instance_is_postmaster(all[i].stat.id.pid);
	for (size_t i = 0; i < count; i++) {
		const struct candidate *parent = candidate_of(all, count, all[i].stat.ppid);

		if (parent && !parent->is_postmaster)
			all[i].is_postmaster = instance_is_postmaster(all[i].stat.id.pid);
	}
}

static int by_name(const void *a, const void *b)
{
	const struct instance_info *const *x = a, *const *y = b;
	int r = strcmp((*x)->name, (*y)->name);

	return r ? r : ((*x)->pid > (*y)->pid) - ((*x)->pid < (*y)->pid);
}

/* The list is sorted by name. */
static int make_unique(struct instance_info **list, size_t count, struct err **err)
{
	for (size_t i = 0; i < count;) {
		size_t end = i + 1;

		while (end < count && strcmp(list[end]->name, list[i]->name) == 0)
			end++;
		if (end == i + 1) {
			i = end;
			continue;
		}
		for (; i < end; i++) {
			char *name;

			if (asprintf(&name, "%s~%d", list[i]->name, list[i]->pid) < 0)
				return err_errno(err, ENOMEM, "name an instance");
			free(list[i]->name);
			list[i]->name = name;
		}
	}
	return 0;
}

void instance_list_free(struct instance_info **list, size_t count)
{
	for (size_t i = 0; list && i < count; i++)
		instance_info_free(list[i]);
	free(list);
}

static int scan(const char *node_name, struct instance_info ***ret, size_t *ret_count,
	struct err **err)
{
	_cleanup_free_ struct candidate *all = NULL;
	struct instance_info **list;
	size_t n = 0, count = 0;
	int r;

	r = find_candidates(&all, &n, err);
	if (r < 0)
		return err_wrap(err, r, "scan for instances");
	mark_postmasters(all, n);
	list = calloc(n + 1, sizeof(struct instance_info *));
	if (!list)
		return err_errno(err, ENOMEM, "scan for instances");
	for (size_t i = 0; i < n; i++) {
		/* What went away or cannot be read is no target. */
		if (!all[i].is_postmaster || instance_describe(&all[i], all, n, &list[count], NULL) < 0)
			continue;
		list[count]->node = strdup(node_name);
		if (!list[count++]->node) {
			instance_list_free(list, count);
			return err_errno(err, ENOMEM, "scan for instances");
		}
	}
	qsort(list, count, sizeof(struct instance_info *), by_name);
	r = make_unique(list, count, err);
	if (r < 0) {
		instance_list_free(list, count);
		return r;
	}
	*ret = list;
	*ret_count = count;
	return 0;
}

/* The kernel walks its whole table of connections for each reading, so once a network namespace. */
static void fill_dcs(struct instance_info **list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t k = 0;

		while (k < i && list[k]->netns != list[i]->netns)
			k++;
		if (k < i)
			list[i]->dcs = strv_copy(list[k]->dcs);
		else
			dcs_find(list[i]->pid, &list[i]->dcs, NULL);
	}
}

int instance_scan(const char *node_name, struct instance_info ***ret, size_t *ret_count,
	struct err **err)
{
	int r = scan(node_name, ret, ret_count, err);

	if (r < 0)
		return r;
	fill_dcs(*ret, *ret_count);
	/* Many have no such file, and none of the rest depends on it. */
	for (size_t i = 0; i < *ret_count; i++)
		resolver_find((*ret)[i]->pid, &(*ret)[i]->nameservers, NULL);
	return 0;
}

/* "a, b, c and 4 more" */
static char *names_of(struct instance_info *const *list, size_t count)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	for (size_t i = 0; i < count && i < NAMES_IN_ERROR; i++)
		fprintf(f, "%s%s", i ? ", " : "", list[i]->name);
	if (count > NAMES_IN_ERROR)
		fprintf(f, " and %zu more", count - NAMES_IN_ERROR);
	return fclose(f) == 0 ? text : NULL;
}

int instance_find(const char *node_name, const char *name, struct instance_info **ret,
	struct err **err)
{
	_cleanup_free_ char *names = NULL;
	struct instance_info **list, *found = NULL;
	size_t count;
	int r;

	r = scan(node_name, &list, &count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < count && !found; i++)
		if (strcmp(list[i]->name, name) == 0) {
			found = list[i];
			list[i] = NULL;
		}
	if (!found && count)
		names = names_of(list, count);
	instance_list_free(list, count);
	if (!found)
		return err_set(err, ENOENT, "no instance \"%s\" on node %s; there is %s", name,
			node_name, names ? names : "none");
	*ret = found;
	return 0;
}

bool instance_is_alive(const struct instance_info *i)
{
	struct proc_id id = {.pid = i->pid, .start_ticks = i->start_ticks};

	return proc_is_alive(&id);
}
