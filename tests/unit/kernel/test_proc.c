#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

/* A child that has named itself and started `children` more, then waits to be killed. */
static pid_t child_start(const char *comm, int children)
{
	int ready[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, comm);
		for (int i = 0; i < children; i++)
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				for (;;)
					pause();
			}
		c = 1;
		(void)!write(ready[1], &c, 1);
		for (;;)
			pause();
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void child_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

Test(proc, stat_survives_an_odd_name)
{
	pid_t pid = child_start("a) R 1 (b\n", 0);
	struct proc_stat s;

	cr_assert_eq(proc_read_stat(pid, &s, NULL), 0);
	cr_expect_eq(s.id.pid, pid);
	cr_expect_eq(s.ppid, getpid());
	cr_expect_str_eq(s.comm, "a) R 1 (b\n");
	cr_expect(s.state == 'S' || s.state == 'R', "state %c", s.state);
	cr_expect_gt(s.id.start_ticks, 0);
	child_end(pid);
	cr_expect_eq(proc_read_stat(pid, &s, NULL), -ESRCH);
}

Test(proc, refuses_what_is_no_pid)
{
	_cleanup_err_ struct err *err = NULL;
	struct proc_stat s;

	cr_expect_eq(proc_read_stat(0, &s, &err), -EINVAL);
	cr_expect(strstr(err_text(err), "0 is no process id"));
	cr_expect_eq(proc_read_stat(-7, &s, NULL), -EINVAL);
}

Test(proc, another_start_time_is_another_process)
{
	pid_t pid = child_start("x", 0);
	struct proc_id id, wrong;
	int fd = -1;

	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	wrong = id;
	wrong.start_ticks++;
	cr_expect(proc_is_alive(&id));
	cr_expect_not(proc_is_alive(&wrong));
	cr_expect_eq(proc_signal(&wrong, SIGKILL, NULL), -ESRCH);
	cr_expect_eq(proc_pidfd(&wrong, &fd, NULL), -ESRCH);
	cr_expect_eq(fd, -1);
	cr_expect(proc_is_alive(&id));
	cr_expect_eq(proc_signal(&id, SIGKILL, NULL), 0);
	waitpid(pid, NULL, 0);
	cr_expect_eq(proc_signal(&id, SIGKILL, NULL), -ESRCH);
}

Test(proc, a_zombie_is_not_alive)
{
	pid_t pid = child_start("x", 0);
	struct proc_id id;
	siginfo_t info;

	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	kill(pid, SIGKILL);
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	cr_expect_not(proc_is_alive(&id));
	waitpid(pid, NULL, 0);
}

Test(proc, tree_has_root_first_and_all_below)
{
	pid_t pid = child_start("x", 3);
	_cleanup_free_ struct proc_id *tree = NULL, *none = NULL;
	size_t n, n_none;

	cr_assert_eq(proc_tree(pid, &tree, &n, NULL), 0);
	cr_expect_eq(n, 4);
	cr_expect_eq(tree[0].pid, pid);
	for (size_t i = 1; i < n; i++) {
		cr_expect_eq(proc_signal(&tree[i], SIGKILL, NULL), 0);
		cr_expect_neq(tree[i].pid, getpid());
	}
	child_end(pid);
	cr_expect_eq(proc_tree(pid, &none, &n_none, NULL), -ESRCH);
}

Test(proc, title_and_list)
{
	_cleanup_free_ char *title = NULL;
	_cleanup_free_ struct proc_stat *list = NULL;
	_cleanup_free_ pid_t *threads = NULL;
	bool found = false;
	size_t n, n_threads;

	cr_assert_eq(proc_title(getpid(), &title, NULL), 0);
	cr_expect_neq(title[0], (char)0);
	cr_expect_neq(title[strlen(title) - 1], (char)32);
	cr_assert_eq(proc_list(&list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		found |= list[i].id.pid == getpid();
	cr_expect(found);
	cr_assert_eq(proc_threads(getpid(), &threads, &n_threads, NULL), 0);
	cr_expect_geq(n_threads, 1);
}

Test(proc, reads_no_more_than_asked)
{
	_cleanup_free_ char *text = NULL;
	size_t n;

	cr_assert_eq(proc_read_file(getpid(), "status", 10, &text, &n, NULL), 0);
	cr_expect_eq(n, 10);
	cr_expect_eq(text[10], '\0');
	cr_expect_eq(strncmp(text, "Name:", 5), 0);
}

Test(proc, status_tracer_namespaces)
{
	_cleanup_free_ char *tgid = NULL, *none = NULL;
	uint64_t ours, parents;
	pid_t tracer = -1;
	char text[16];

	cr_assert_eq(proc_status_field(getpid(), "Tgid", &tgid, NULL), 0);
	snprintf(text, sizeof(text), "%d", getpid());
	cr_expect_str_eq(tgid, text);
	cr_expect_eq(proc_status_field(getpid(), "Nonsense", &none, NULL), -ENODATA);
	cr_expect_eq(proc_tracer(getpid(), &tracer, NULL), 0);
	cr_expect_eq(tracer, 0);
	cr_assert_eq(proc_namespace(getpid(), "net", &ours, NULL), 0);
	cr_assert_eq(proc_namespace(getppid(), "net", &parents, NULL), 0);
	cr_expect_eq(ours, parents);
}
