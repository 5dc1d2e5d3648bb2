#include <criterion/criterion.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "hold/thread_call.h"

/* A process that sleeps in the call. */
static pid_t start(char what)
{
	int fds[2];
	pid_t pid;

	cr_assert_eq(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		static char block[1 << 20];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (what == 'r')
			(void)!read(fds[0], block, 1);
		else if (what == 'w')
			(void)!write(fds[1], block, sizeof(block));
		else
			pause();
		_exit(0);
	}
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void expect(struct thread_calls *t, pid_t pid, enum disk_operation wanted)
{
	for (int i = 0; i < 5000 && thread_calls_get(t, pid) != wanted; i++)
		usleep(1000);
	cr_expect_eq(thread_calls_get(t, pid), wanted);
}

Test(thread_call, tells_reads_from_writes)
{
	pid_t reader = start('r'), writer = start('w'), other = start('p');
	struct thread_calls t;

	thread_calls_init(&t);
	expect(&t, reader, DISK_READ);
	expect(&t, writer, DISK_WRITE);
	expect(&t, other, DISK_OPERATION_MAX);
	end(reader);
	cr_expect_eq(thread_calls_get(&t, reader), DISK_OPERATION_MAX, "gone");
	end(writer);
	end(other);
	thread_calls_done(&t);
}

Test(thread_call, notices_another_of_the_same_number)
{
	pid_t gone = start('r'), writer = start('w');
	struct thread_calls t;

	thread_calls_init(&t);
	expect(&t, gone, DISK_READ);
	/* As if the second had come by the number of the first. */
	t.list[(unsigned)writer % THREAD_CALLS_KNOWN] =
		(struct thread_call){writer, t.list[(unsigned)gone % THREAD_CALLS_KNOWN].fd};
	t.list[(unsigned)gone % THREAD_CALLS_KNOWN].fd = -1;
	if (gone % THREAD_CALLS_KNOWN == writer % THREAD_CALLS_KNOWN)
		cr_skip_test("both in one place");
	end(gone);
	expect(&t, writer, DISK_WRITE);
	end(writer);
	thread_calls_done(&t);
}
