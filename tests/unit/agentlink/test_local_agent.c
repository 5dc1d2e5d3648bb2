/* How an agent of our own can fail to start. The agent's program is looked for beside this test's, where
 * none is, and then in PATH: there the test puts its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentlink/local_agent.h"
#include "core/cleanup.h"

static char folder[] = "/tmp/pgjolt-local-agent-XXXXXX";
static char socket_path[64], program[64];

static void set_up(void)
{
	if (geteuid() != 0)
		cr_skip_test("needs root: nobody else starts an agent");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(socket_path, sizeof(socket_path), "%s/agent.sock", folder);
	snprintf(program, sizeof(program), "%s/pgjolt-agent", folder);
	setenv("PATH", folder, 1);
}

static void tear_down(void)
{
	unlink(program);
	unlink(socket_path);
	rmdir(folder);
}

TestSuite(local_agent, .init = set_up, .fini = tear_down, .timeout = 40);

static void write_program(const char *text)
{
	FILE *f = fopen(program, "w");

	cr_assert_not_null(f);
	fprintf(f, "#!/bin/bash\nPATH=/usr/bin:/bin\n%s\n", text);
	fclose(f);
	cr_assert_eq(chmod(program, 0755), 0);
}

static int ensure(struct local_agent **ret, struct err **err)
{
	*ret = NULL;
	return local_agent_ensure(socket_path, ret, err);
}

Test(local_agent, no_program)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *a;

	cr_assert_eq(ensure(&a, &err), -ECHILD);
	cr_assert(strstr(err_text(err), "exit 127"), "%s", err_text(err));
	cr_assert_null(a);
}

Test(local_agent, refuses_to_start)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *a;

	write_program("exit 3");
	cr_assert_eq(ensure(&a, &err), -ECHILD);
	cr_assert(strstr(err_text(err), "exit 3"), "%s", err_text(err));
	write_program("kill -KILL $$");
	cr_assert_eq(ensure(&a, &err), -ECHILD);
	cr_assert(strstr(err_text(err), "exit 137"), "%s", err_text(err));
	cr_assert_null(a);
}

/* It says that it is ready, gets SIGTERM at the end and says how it went. */
Test(local_agent, starts_and_stops)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *a;
	struct pollfd p;

	write_program("trap 'exit 5' TERM\n"
		      "while [ $# -gt 0 ]; do [ \"$1\" = --ready-fd ] && fd=$2; shift; done\n"
		      "eval \"echo ready >&$fd; exec $fd>&-\"\n"
		      "while :; do sleep 0.05; done");
	cr_assert_eq(ensure(&a, &err), 0, "%s", err_text(err));
	cr_assert_not_null(a);
	p = (struct pollfd){.fd = local_agent_pidfd(a), .events = POLLIN};
	cr_assert_eq(poll(&p, 1, 0), 0, "it lives");
	cr_assert_eq(local_agent_stop(a), 5);
	cr_assert_eq(local_agent_stop(NULL), 0);
	cr_assert_eq(local_agent_pidfd(NULL), -1);
}

/* Who presses Ctrl-C once more does not wait for an agent that does not leave. */
Test(local_agent, interrupted_while_it_stops)
{
	_cleanup_err_ struct err *err = NULL;
	struct local_agent *a;
	sigset_t set;

	write_program("trap '' TERM\n"
		      "while [ $# -gt 0 ]; do [ \"$1\" = --ready-fd ] && fd=$2; shift; done\n"
		      "eval \"echo ready >&$fd; exec $fd>&-\"\n"
		      "for i in $(seq 200); do sleep 0.05; kill -0 $PPID || exit; done");
	cr_assert_eq(ensure(&a, &err), 0, "%s", err_text(err));
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	cr_assert_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	raise(SIGINT);
	cr_assert_eq(local_agent_stop(a), -EINTR);
}

Test(local_agent, one_is_there)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct local_agent *a;
	bool answers = true;

	cr_assert_eq(local_agent_answers(socket_path, &answers, NULL), 0);
	cr_assert(!answers);
	strcpy(address.sun_path, socket_path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	/* The file alone is nobody. */
	cr_assert_eq(local_agent_answers(socket_path, &answers, NULL), 0);
	cr_assert(!answers);
	cr_assert_eq(listen(fd, 4), 0);
	cr_assert_eq(local_agent_answers(socket_path, &answers, NULL), 0);
	cr_assert(answers);
	cr_assert_eq(ensure(&a, NULL), 0);
	cr_assert_null(a);
	cr_assert_eq(chmod(socket_path, 0600), 0);
	cr_assert_eq(chmod(folder, 0755), 0);
	cr_assert_eq(seteuid(65534), 0);
	cr_assert_eq(local_agent_answers(socket_path, &answers, NULL), -EACCES);
	cr_assert_eq(ensure(&a, NULL), -EACCES);
	cr_assert_eq(seteuid(0), 0);
}

Test(local_agent, paths)
{
	char path[200];
	bool answers;

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	cr_assert_eq(local_agent_answers(path, &answers, NULL), -EINVAL);
	cr_assert_eq(seteuid(65534), 0);
	cr_assert_eq(local_agent_answers("/nowhere/agent.sock", &answers, NULL), 0);
	cr_assert(!answers);
	cr_assert_eq(seteuid(0), 0);
}
