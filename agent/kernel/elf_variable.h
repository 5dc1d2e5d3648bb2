/* Where a running program has one of its exported variables: its file's dynamic symbols (elf(5)) and
 * where the kernel loaded it (auxv, getauxval(3)). Nothing in file or process is believed. */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

/* Address in the process's memory. -ENODATA: its program exports none of that name; -EBADMSG: no ELF
 * of 64 bits and this machine's byte order. */
int elf_variable(pid_t pid, const char *name, uint64_t *ret, struct err **err);
