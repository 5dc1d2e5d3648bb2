/*
 * In a build for gcovr alone: a process that leaves by _exit(), as the agent's children do, counts as well (gcov's own
 * way out is atexit(3)). Linked by --wrap=_exit, ld(1).
 */
#include <gcov.h>

void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}
