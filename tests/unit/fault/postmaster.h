/* A "postmaster" that is none: sleep(1) by another name (argv[0]; its argument comes after), whose children are such too.
 * All end with the test, unless told otherwise. */
#pragma once

#include <criterion/criterion.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

#define POSTMASTER_CHILDREN_MAX 4

struct postmaster {
	struct proc_id id;
	pid_t children[POSTMASTER_CHILDREN_MAX];
	bool is_survived;	/* set before: its children do not end with it, but when they are killed, or after a while */
};

static inline bool postmaster_is_named(pid_t pid, const char *start)
{
	for (int i = 0; i < 5000; i++) {
		_cleanup_free_ char *title = NULL;

		if (proc_title(pid, &title, NULL) == 0 && strncmp(title, start, strlen(start)) == 0)
			return true;
		usleep(1000);
	}
	return false;
}

/* titles: of its children, NULL-terminated; the first alone has the descriptor fd (-1: none). */
static inline void postmaster_start(struct postmaster *p, const char *const *titles, int fd, char *const *environment)
{
	int tell[2];

	cr_assert_eq(pipe(tell), 0);
	p->id.pid = fork();
	cr_assert_geq(p->id.pid, 0);
	if (p->id.pid == 0) {
		char *const words[] = {(char *)"/usr/lib/postgresql/bin/postgres", (char *)"1000", NULL};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; titles[i]; i++) {
			pid_t pid = fork();

			if (pid == 0) {
				prctl(PR_SET_PDEATHSIG, p->is_survived ? 0 : SIGKILL);
				for (int n = 3; n < 64; n++)
					if (i || n != fd)
						close(n);
				execl("/bin/sleep", titles[i], "120", NULL);
				_exit(1);
			}
			(void)!write(tell[1], &pid, sizeof(pid));
		}
		for (int n = 3; n < 64; n++)
			close(n);
		execve("/bin/sleep", words, environment);
		_exit(1);
	}
	for (int i = 0; titles[i]; i++) {
		cr_assert_eq(read(tell[0], &p->children[i], sizeof(pid_t)), sizeof(pid_t));
		cr_assert(postmaster_is_named(p->children[i], titles[i]));
	}
	cr_assert(postmaster_is_named(p->id.pid, "/usr/lib/postgresql"));
	cr_assert_eq(proc_identify(p->id.pid, &p->id, NULL), 0);
	close(tell[0]);
	close(tell[1]);
}

static inline void postmaster_end(struct postmaster *p)
{
	if (!p->id.pid)
		return;
	kill(p->id.pid, SIGKILL);
	waitpid(p->id.pid, NULL, 0);
	p->id.pid = 0;
}
