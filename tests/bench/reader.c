/*
 * Reads of 8 KiB from a cached file, timed each: what the gates are measured by.
 *
 *   bench-reader FILE [real-time]    (in a mount namespace of its own, in a folder that looks like PGDATA)
 *
 * For a line "N" on stdin: opens the file anew, reads N times, prints the times in ns on one line. "N SLEEP_NS":
 * sleeps N times so long instead, for how late this machine wakes a process that asked for it itself.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/clock.h"

#define READ_BYTES 8192
#define BLOCKS	   64
#define READS_MAX  100000

static void sleep_ns(uint64_t ns)
{
	const struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static int run(const char *path, size_t n, uint64_t sleep)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	static uint64_t took[READS_MAX];
	char block[READ_BYTES];

	for (size_t i = 0; i < n; i++) {
		uint64_t start = now_ns();

		if (sleep)
			sleep_ns(sleep);
		else if (pread(fd, block, sizeof(block), (off_t)(i % BLOCKS * READ_BYTES)) != READ_BYTES)
			return -1;
		took[i] = now_ns() - start;
	}
	for (size_t i = 0; i < n; i++)
		printf("%llu ", (unsigned long long)took[i]);
	putchar('\n');
	return fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct sched_param first = {.sched_priority = 1};
	char line[64];

	/*
	 * What other programs do on the machine is not to be measured. But the scheduler places and wakes a
	 * real-time process in another way than PostgreSQL's: by those it is shown how exact a gate is alone.
	 */
	if (argc == 3)
		sched_setscheduler(0, SCHED_FIFO, &first);
	else
		setpriority(PRIO_PROCESS, 0, -20);
	while (argc >= 2 && fgets(line, sizeof(line), stdin)) {
		char *rest;
		size_t n = strtoul(line, &rest, 10);

		if (n == 0 || n > READS_MAX || run(argv[1], n, strtoull(rest, NULL, 10)) != 0)
			return 1;
	}
	return argc >= 2 ? 0 : 2;
}
