/* Programs that manage a PostgreSQL instance, by their command lines. */
#pragma once

#include <stddef.h>

/* "Patroni", "CloudNativePG", ...: static; NULL for any other program. A command line as
 * /proc/PID/cmdline has it: arguments with a NUL after each; any bytes. */
const char *manager_process_name(const char *command_line, size_t length);
/* All of them, for an error. */
const char *manager_process_names(void);
