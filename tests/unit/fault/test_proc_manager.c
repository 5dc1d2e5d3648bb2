/* Who manages an instance in a container: a pid namespace of the test's own, whose processes are sleep(1) by other names. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "core/wire.h"
#include "fault/proc_named.h"

#define POSTGRES "postgres"
#define NAMES_MAX 5

/* The first of names is the container's first process, the others are its children. */
struct container {
	char names[NAMES_MAX][64];
	pid_t pids[NAMES_MAX];
	size_t count;
	pid_t outside;		/* who made it */
};

static void become(const char *name)
{
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	execl("/bin/sleep", name, "120", NULL);
	_exit(1);
}

/* By its title, which is nobody else's. */
static pid_t find(const char *name)
{
	for (int i = 0; i < 5000; i++) {
		_cleanup_free_ pid_t *pids = NULL;
		size_t n;

		cr_assert_eq(proc_pids(&pids, &n, NULL), 0);
		for (size_t k = 0; k < n; k++) {
			_cleanup_free_ char *title = NULL;

			if (proc_title(pids[k], &title, NULL) == 0 && strncmp(title, name, strlen(name)) == 0 &&
				title[strlen(name)] == ' ')
				return pids[k];
		}
		usleep(1000);
	}
	cr_assert_fail("no process %s", name);
	return 0;
}

static void start(struct container *c, const char *const *names)
{
	if (geteuid() != 0)
		cr_skip_test("needs root");
	memset(c, 0, sizeof(*c));
	for (; names[c->count]; c->count++)
		snprintf(c->names[c->count], sizeof(c->names[0]), "/pj-manager-%d/%zu/%s", getpid(), c->count, names[c->count]);
	c->outside = fork();
	cr_assert_geq(c->outside, 0);
	if (c->outside == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWPID) < 0 || fork() > 0) {
			wait(NULL);
			_exit(0);
		}
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 1; i < c->count; i++)
			if (fork() == 0)
				become(c->names[i]);
		become(c->names[0]);
	}
	for (size_t i = 0; i < c->count; i++)
		c->pids[i] = find(c->names[i]);
}

/* All of a namespace end with its first. */
static void end(struct container *c)
{
	kill(c->pids[0], SIGKILL);
	waitpid(c->outside, NULL, 0);
}

/* The second one is the postmaster. */
static int choose(struct container *c, struct proc_choice **ret, size_t *ret_count, struct err **err)
{
	struct instance_info instance = {.name = (char *)"lab/pg1", .cluster_name = (char *)"lab", .pid = c->pids[1]};
	struct proc_id id;

	cr_assert_eq(proc_identify(c->pids[1], &id, NULL), 0);
	return proc_choose_manager(&id, &instance, ret, ret_count, err);
}

Test(proc_manager, beside_postgres, .timeout = 60)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	struct container c;
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0;

	start(&c, (const char *const[]){"tini", POSTGRES, "sidecar", "patroni", NULL});
	cr_assert_eq(choose(&c, &list, &n, &err), 0, "%s", err_text(err));
	cr_assert_eq(n, 1);
	cr_expect_eq(list[0].id.pid, c.pids[3]);
	cr_expect_str_eq(list[0].kind, "Patroni");
	end(&c);
}

/* Patroni as a container's first process only reaps; what manages is its child. */
Test(proc_manager, beside_its_own_reaper, .timeout = 60)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	struct container c;
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0;

	start(&c, (const char *const[]){"patroni", POSTGRES, "patroni", NULL});
	cr_assert_eq(choose(&c, &list, &n, &err), 0, "%s", err_text(err));
	cr_assert_eq(n, 1);
	cr_expect_eq(list[0].id.pid, c.pids[2]);
	end(&c);
}

Test(proc_manager, several, .timeout = 60)
{
	_cleanup_free_ struct proc_choice *list = NULL;
	struct container c;
	_cleanup_err_ struct err *err = NULL;
	size_t n = 0;

	start(&c, (const char *const[]){"tini", POSTGRES, "stolon-keeper", "pg_autoctl", NULL});
	cr_assert_eq(choose(&c, &list, &n, &err), 0, "%s", err_text(err));
	cr_expect_eq(n, 2);
	end(&c);
}

Test(proc_manager, none_that_is_known, .timeout = 60)
{
	struct proc_choice *list = NULL;
	struct container c;
	_cleanup_err_ struct err *err = NULL;
	struct proc_id gone = {0};
	size_t n = 0;

	start(&c, (const char *const[]){"tini", POSTGRES, "sidecar", NULL});
	cr_expect_eq(choose(&c, &list, &n, &err), -ENOENT);
	cr_expect(strstr(err_text(err), "no manager of lab/pg1 that is known (Patroni, "), "%s", err_text(err));
	cr_expect(strstr(err_text(err), "beside PostgreSQL there: ") && strstr(err_text(err), "sleep"), "%s", err_text(err));
	cr_expect_null(list);
	cr_assert_eq(proc_identify(c.pids[1], &gone, NULL), 0);
	end(&c);
	cr_expect_eq(proc_choose_manager(&gone, &(struct instance_info){.name = (char *)"lab/pg1", .pid = gone.pid}, &list, &n,
		&err), -ESTALE, "%s", err_text(err));
}
