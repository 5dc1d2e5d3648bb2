#include "kernel/refusal.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "core/cleanup.h"

/* Names those of the needed capabilities that we lack; empty if none. */
static void missing_capabilities(char *buf, size_t size)
{
	static const struct {
		int bit;
		const char *name;
	} needed[] = {{12, "CAP_NET_ADMIN"}, {21, "CAP_SYS_ADMIN"}, {38, "CAP_PERFMON"},
		{39, "CAP_BPF"}};
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {0};
	uint64_t have;
	size_t used = 0;

	buf[0] = '\0';
	if (syscall(SYS_capget, &header, caps) < 0)
		return;
	have = (uint64_t)caps[1].effective << 32 | caps[0].effective;
	for (size_t i = 0; i < ELEMENTS(needed); i++) {
		/* CAP_SYS_ADMIN stands for the two that were split from it in Linux 5.8. */
		if (have & 1ULL << needed[i].bit || (needed[i].bit >= 38 && have & 1ULL << 21))
			continue;
		if (used + strlen(needed[i].name) + 3 > size)
			break;
		used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "",
			needed[i].name);
	}
}

static bool is_passing(int code)
{
	static const int passing[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EDQUOT, EAGAIN, EINTR, EBUSY,
		ETIMEDOUT};

	for (size_t i = 0; i < ELEMENTS(passing); i++)
		if (passing[i] == abs(code))
			return true;
	return false;
}

int kernel_refusal(struct err **err, int code, const char *what)
{
	char missing[96];
	struct utsname u = {0};

	if (is_passing(code))
		return err_errno(err, code, "%s", what);
	missing_capabilities(missing, sizeof(missing));
	if (missing[0])
		return err_set(err, EOPNOTSUPP, "%s: %s (missing %s)", what, strerror(abs(code)),
			missing);
	uname(&u);
	return err_set(err, EOPNOTSUPP, "%s: %s (kernel %s)", what, strerror(abs(code)), u.release);
}
