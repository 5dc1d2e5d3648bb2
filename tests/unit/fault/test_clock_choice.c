/* Whose clocks: of a group of the test's own with a postmaster and others in it, also once the postmaster is gone. */
#include "postmaster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "core/wire.h"
#include "fault/clock_choice.h"

static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
static const char *const titles[] = {"postgres: lab: walsender r 10.0.0.2(1)", "postgres: lab: alice app [local] idle", NULL};

/* In a group named as a service, whose all is what is in it. */
static struct {
	char path[64], folder[128];
	struct postmaster postmaster;
	pid_t manager;
	struct instance_info instance;
} scene;

static void join(pid_t pid)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.procs", scene.folder);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fprintf(f, "%d", pid);
	cr_assert_eq(fclose(f), 0);
}

static void begin(void)
{
	char file[192];

	for (size_t i = 0; i < ELEMENTS(mounts) && !scene.path[0]; i++) {
		snprintf(scene.folder, sizeof(scene.folder), "%s/pj-clock-unit-%d.service", mounts[i], getpid());
		snprintf(file, sizeof(file), "%s/cgroup.controllers", mounts[i]);
		if (access(file, R_OK) == 0 && mkdir(scene.folder, 0755) == 0)
			snprintf(scene.path, sizeof(scene.path), "/pj-clock-unit-%d.service", getpid());
	}
	if (!scene.path[0])
		cr_skip("no cgroup v2 where a group may be made");
	scene.postmaster.is_survived = true;
	postmaster_start(&scene.postmaster, titles, -1, (char *[]){NULL});
	scene.manager = fork();
	cr_assert_geq(scene.manager, 0);
	if (scene.manager == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sleep", "patroni", "1000", NULL);
		_exit(1);
	}
	cr_assert(postmaster_is_named(scene.manager, "patroni"));
	join(scene.postmaster.id.pid);
	join(scene.postmaster.children[0]);
	join(scene.postmaster.children[1]);
	join(scene.manager);
	scene.instance = (struct instance_info){.name = (char *)"lab/pg1", .cluster_name = (char *)"lab",
		.pid = scene.postmaster.id.pid, .cgroup = scene.path};
}

static void end(void)
{
	if (!scene.path[0])
		return;
	for (size_t i = 0; titles[i]; i++)	/* not reaped by us, but nobody else ends them */
		kill(scene.postmaster.children[i], SIGKILL);
	postmaster_end(&scene.postmaster);
	kill(scene.manager, SIGKILL);
	waitpid(scene.manager, NULL, 0);
	/* Those whose parent is gone are left to whoever reaps them. */
	for (int i = 0; i < 5000 && rmdir(scene.folder) < 0; i++)
		usleep(1000);
	cr_expect_neq(access(scene.folder, F_OK), 0);
}

TestSuite(clock_choice, .init = begin, .fini = end, .timeout = 60);

/* The kind that the process is chosen as; NULL: it is not. */
static const char *kind_of(const struct proc_choice *list, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].id.pid == pid)
			return list[i].kind;
	return NULL;
}

static size_t choose(enum clock_choice which, const struct proc_id *postmaster, struct proc_choice **ret)
{
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0;

	cr_assert_eq(clock_choose(postmaster, &scene.instance, which, ret, &n, &err), 0, "%s", err_text(err));
	return n;
}

Test(clock_choice, beside_a_postmaster)
{
	_cleanup_free_ struct proc_choice *tree = NULL, *rest = NULL, *all = NULL;
	size_t n;

	n = choose(CLOCK_CHOICE_POSTGRES, &scene.postmaster.id, &tree);
	cr_expect_eq(n, 3);
	cr_expect_null(kind_of(tree, n, scene.manager));
	cr_expect_str_eq(kind_of(tree, n, scene.postmaster.children[0]), "walsender");
	n = choose(CLOCK_CHOICE_MANAGER, &scene.postmaster.id, &rest);
	cr_expect_eq(n, 1);
	cr_expect_str_eq(kind_of(rest, n, scene.manager), "other");
	n = choose(CLOCK_CHOICE_ALL, &scene.postmaster.id, &all);
	cr_expect_eq(n, 4);
}

/* What it was tells which are PostgreSQL's: theirs are clocks to be made right again too. */
Test(clock_choice, after_the_postmaster)
{
	_cleanup_free_ struct proc_choice *rest = NULL, *all = NULL;
	struct proc_id gone = scene.postmaster.id;
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0;

	kill(scene.postmaster.id.pid, SIGKILL);
	waitpid(scene.postmaster.id.pid, NULL, 0);
	scene.postmaster.id.pid = 0;
	n = choose(CLOCK_CHOICE_ALL, &gone, &all);
	cr_expect_eq(n, 3);
	cr_expect_str_eq(kind_of(all, n, scene.postmaster.children[0]), "walsender");
	n = choose(CLOCK_CHOICE_MANAGER, &gone, &rest);
	cr_expect_eq(n, 1);
	cr_expect_str_eq(kind_of(rest, n, scene.manager), "other");
	cr_expect_eq(clock_choose(&gone, &scene.instance, CLOCK_CHOICE_POSTGRES, &rest, &n, &err), -ESTALE, "%s",
		err_text(err));
	scene.instance.cgroup = (char *)"/pj-clock-unit-none.service";
	cr_expect_eq(clock_choose(&gone, &scene.instance, CLOCK_CHOICE_ALL, &rest, &n, &err), -ENOENT);
}

/* In a group that others share nobody's clock but PostgreSQL's is ours to change. */
Test(clock_choice, in_a_shared_group)
{
	_cleanup_err_ struct err *err = NULL;
	struct proc_choice *list = NULL;
	size_t n = 0;

	scene.instance.cgroup = (char *)"/";
	for (enum clock_choice which = CLOCK_CHOICE_MANAGER; which <= CLOCK_CHOICE_ALL; which++)
		cr_expect_eq(clock_choose(&scene.postmaster.id, &scene.instance, which, &list, &n, &err), -EPERM);
	cr_expect_null(list);
	cr_expect_eq(choose(CLOCK_CHOICE_POSTGRES, &scene.postmaster.id, &list), 3);
	free(list);
}
