#include "instance/application.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include "core/cleanup.h"
#include "kernel/elf_variable.h"

/* NAMEDATALEN is 64, unless PostgreSQL was built with another; a read never crosses a page. */
#define NAME_MAX_BYTES 1024
#define CHUNK	       64

static int stat_program(pid_t pid, struct stat *ret, struct err **err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	if (stat(path, ret) < 0)
		return err_errno(err, errno == ENOENT ? ESRCH : errno, "stat %s", path);
	return 0;
}

int application_place_find(pid_t postmaster, struct application_place *ret, struct err **err)
{
	struct stat st;
	uint64_t address;
	int r;

	r = stat_program(postmaster, &st, err);
	if (r >= 0)
		r = elf_variable(postmaster, "application_name", &address, err);
	if (r < 0)
		return r;
	*ret = (struct application_place){address, st.st_dev, st.st_ino};
	return 0;
}

static int read_memory(pid_t pid, uint64_t address, void *ret, size_t size, struct err **err)
{
	struct iovec here = {ret, size};
	/* An address there is not one here: it is only handed to the kernel. */
	struct iovec there = {(void *)(uintptr_t)address, size};
	ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);

	if (n < 0)
		return err_errno(err, errno, "read the memory of process %d", pid);
	return (size_t)n == size ? 0 : err_set(err, EFAULT, "read the memory of process %d", pid);
}

int application_name(const struct application_place *place, pid_t pid, char **ret, struct err **err)
{
	char name[NAME_MAX_BYTES + CHUNK] = "";
	uint64_t address = 0;
	struct stat st;
	int r;

	r = stat_program(pid, &st, err);
	if (r >= 0 && (st.st_dev != place->device || st.st_ino != place->inode))
		r = err_set(err, ESRCH, "process %d runs another program", pid);
	if (r >= 0)
		r = read_memory(pid, place->address, &address, sizeof(address), err);
	for (size_t n = 0; r >= 0 && address != 0 && n < NAME_MAX_BYTES;) {
		size_t size = CHUNK - (address + n) % CHUNK;

		r = read_memory(pid, address + n, name + n, size, err);
		if (r >= 0 && memchr(name + n, '\0', size))
			break;
		n += size;
	}
	if (r < 0)
		return r;
	name[NAME_MAX_BYTES] = '\0';
	*ret = strdup(name);
	return *ret ? 0 : err_errno(err, ENOMEM, "read an application_name");
}
