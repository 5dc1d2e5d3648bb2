/* A process to try a mechanism on. */
#pragma once

#include <sys/types.h>

/* It only waits, and ends with the thread that made it. -1 with errno. */
pid_t probe_process_start(void);
/* Kills and reaps it. */
void probe_process_end(pid_t pid);
