/* postmaster.pid, the lock file of a data directory (src/include/utils/pidfile.h). Whoever owns the
 * folder may have written anything in it. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

#define POSTMASTER_FILE_MAX 8192

struct postmaster_file {
	pid_t pid;		/* line 1, in the postmaster's own pid namespace */
	uint16_t port;		/* line 4; 0 while it is not written yet */
	char *socket_dir;	/* line 5; NULL if empty */
	char *listen_address;	/* line 6, the first of listen_addresses; NULL if empty */
};

void postmaster_file_done(struct postmaster_file *f);
/* -EINVAL if it is no postmaster's (a single-user server writes a negative pid). */
int postmaster_file_parse(const char *text, struct postmaster_file *ret, struct err **err);
