/*
 * How long programs take to do something, as one who starts them sees it. A line on stdin is a
 * command, or several parted by " ; " that run one after another; the answer is a line: nanoseconds
 * from the first posix_spawn() to the last exit, and the last status. Ends with its input.
 */
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "core/clock.h"

#define WORDS_MAX 64

extern char **environ;

static int run(char *words)
{
	char *argv[WORDS_MAX + 1], *rest = NULL;
	size_t n = 0;
	pid_t pid;
	int status;

	for (char *w = strtok_r(words, " ", &rest); w && n < WORDS_MAX; w = strtok_r(NULL, " ", &rest))
		argv[n++] = w;
	argv[n] = NULL;
	if (n == 0 || posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return 127;
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return 126;
	return WEXITSTATUS(status);
}

static int run_all(char *line)
{
	int status = 0;

	while (line && status == 0) {
		char *next = strstr(line, " ; ");

		if (next) {
			*next = '\0';
			next += 3;
		}
		status = run(line);
		line = next;
	}
	return status;
}

int main(void)
{
	char line[4096];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t start = now_ns();
		int status;

		line[strcspn(line, "\n")] = '\0';
		status = run_all(line);
		printf("%ju %d\n", (uintmax_t)(now_ns() - start), status);
		fflush(stdout);
	}
	return 0;
}
