#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "kernel/elf_variable.h"

/* What is no ELF file cannot run; what runs may have no symbols. */
Test(elf_variable, programs_without_it)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t at = 42;

	cr_expect_eq(elf_variable(getpid(), "no_such_variable_anywhere", &at, &err), -ENODATA);
	cr_expect(strstr(err_text(err), "no_such_variable_anywhere") || strstr(err_text(err), "exports"));
	err_free(err);
	err = NULL;
	cr_expect_eq(elf_variable(0x3fffffff, "environ", &at, &err), -ESRCH);
	cr_expect_eq(at, 42);
}

/* A kernel thread has no program. */
Test(elf_variable, kernel_threads)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t at = 42;

	cr_expect_lt(elf_variable(2, "environ", &at, &err), 0);
	cr_expect_eq(at, 42);
}
