#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/cleanup.h"
#include "kernel/proc.h"

#define SOCKETS_MAX 65536

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

int proc_sockets(pid_t pid, uint32_t **ret, size_t *ret_count, struct err **err)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	_cleanup_free_ uint32_t *list = NULL;
	size_t count = 0, room = 0;
	struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && count < SOCKETS_MAX && (entry = readdir(dir))) {
		char target[64];
		unsigned inode;
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (sscanf(target, "socket:[%u]", &inode) != 1 || inode == 0)
			continue;
		if (count == room) {
			uint32_t *more;

			room = room ? room * 2 : 32;
			more = reallocarray(list, room, sizeof(*more));
			if (!more)
				return err_errno(err, ENOMEM, "list the sockets of a process");
			list = more;
		}
		list[count++] = inode;
	}
	*ret = steal_ptr(list);
	*ret_count = count;
	return 0;
}
