/*
 * The application_name of a PostgreSQL process, without a role in the database: the string that its
 * variable of that name points to (src/backend/utils/misc/guc*.c, exported for extensions: since 9.0
 * a char *). A postmaster's children are forks of it, so the variable is where the postmaster has it.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

struct application_place {
	uint64_t address;
	dev_t device;		/* of the program */
	ino_t inode;
};

/* -ENODATA, -EBADMSG: this PostgreSQL does not tell (elf_variable()). */
int application_place_find(pid_t postmaster, struct application_place *ret, struct err **err);
/* "" where it has none yet. -ESRCH: it is gone, or runs another program by now. Caller frees. */
int application_name(const struct application_place *place, pid_t pid, char **ret, struct err **err);
