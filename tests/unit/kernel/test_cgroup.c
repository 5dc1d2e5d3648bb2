#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/cgroup.h"

/* A group of the test's own in the v2 hierarchy, with a nested one; skips where that cannot be. */
struct group {
	char path[64], folder[128], nested[160];
	char file[192];
	pid_t pid;
};

static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};

static void write_file(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert_not_null(f, "%s", path);
	fputs(text, f);
	cr_assert_eq(fclose(f), 0);
}

static void group_start(struct group *g)
{
	char pid[16];

	for (size_t i = 0; i < ELEMENTS(mounts); i++) {
		snprintf(g->path, sizeof(g->path), "/pj-procs-unit-%d", getpid());
		snprintf(g->folder, sizeof(g->folder), "%s%s", mounts[i], g->path);
		snprintf(g->file, sizeof(g->file), "%s/cgroup.controllers", mounts[i]);
		if (access(g->file, R_OK) == 0 && mkdir(g->folder, 0755) == 0)
			break;
		g->folder[0] = '\0';
	}
	if (!g->folder[0])
		cr_skip("no cgroup v2 where a group may be made");
	snprintf(g->nested, sizeof(g->nested), "%s/inner", g->folder);
	cr_assert_eq(mkdir(g->nested, 0755), 0);
	g->pid = fork();
	if (g->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	snprintf(pid, sizeof(pid), "%d", g->pid);
	write_file(g->nested, "cgroup.procs", pid);
}

static void group_end(struct group *g)
{
	write_file(g->folder, "cgroup.freeze", "0");
	kill(g->pid, SIGKILL);
	waitpid(g->pid, NULL, 0);
	rmdir(g->nested);
	cr_expect_eq(rmdir(g->folder), 0);
}

Test(cgroup, names_and_lists)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_free_ struct proc_id *ids = NULL;
	struct group g = {0};
	size_t n = 0;

	group_start(&g);
	cr_assert_eq(cgroup_of(g.pid, &path, NULL), 0);
	cr_expect(strstr(path, g.path) && strstr(path, "/inner"), "%s", path);
	cr_assert_eq(cgroup_processes(g.path, &ids, &n, NULL), 0);
	cr_assert_eq(n, 1);
	cr_expect_eq(ids[0].pid, g.pid);
	group_end(&g);
	cr_expect_eq(cgroup_processes(g.path, &ids, &n, NULL), -ENOENT);
}

Test(cgroup, freezes_and_thaws)
{
	_cleanup_free_ char *file = NULL;
	struct group g = {0};
	bool frozen = true;

	group_start(&g);
	cr_assert_eq(cgroup_freezer(g.path, &file, NULL), 0);
	cr_assert_eq(cgroup_is_frozen(file, &frozen, NULL), 0);
	cr_expect_not(frozen);
	cr_assert_eq(cgroup_freeze(file, true, NULL), 0);
	cr_assert_eq(cgroup_is_frozen(file, &frozen, NULL), 0);
	cr_expect(frozen);
	cr_assert_eq(cgroup_freeze(file, true, NULL), 0, "twice is no error");
	cr_assert_eq(cgroup_freeze(file, false, NULL), 0);
	cr_assert_eq(cgroup_is_frozen(file, &frozen, NULL), 0);
	cr_expect_not(frozen);
	group_end(&g);
	cr_expect_eq(cgroup_freeze(file, true, NULL), -ESTALE);
	cr_expect_eq(cgroup_freeze(file, false, NULL), 0, "gone is thawed");
	frozen = true;
	cr_expect_eq(cgroup_is_frozen(file, &frozen, NULL), 0);
	cr_expect_not(frozen);
}

Test(cgroup, refuses_what_is_no_group)
{
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ struct proc_id *ids = NULL;
	char *file = NULL;
	bool frozen;
	size_t n;

	cr_expect_eq(cgroup_freezer("/", &file, &err), -EPERM);
	cr_expect(strstr(err_text(err), "root"));
	cr_expect_null(file);
	cr_expect_lt(cgroup_freezer("/pj-procs-none", &file, NULL), 0);
	cr_expect_eq(cgroup_processes("a", &ids, &n, NULL), -EINVAL);
	cr_expect_eq(cgroup_processes("/../etc", &ids, &n, NULL), -EOPNOTSUPP);
	cr_expect_eq(cgroup_processes("/..", &ids, &n, NULL), -EOPNOTSUPP);
	cr_expect_eq(cgroup_freeze("/etc/passwd", false, NULL), -EINVAL);
	cr_expect_eq(cgroup_is_frozen("/etc/passwd", &frozen, NULL), -EINVAL);
}
