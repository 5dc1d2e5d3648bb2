#include "kernel/tcx.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include "core/cleanup.h"

/* enum bpf_attach_type of Linux 6.6; older headers lack them. */
#define ATTACH_TCX_INGRESS 46
#define ATTACH_TCX_EGRESS  47

int tcx_attach(int prog_fd, int ifindex, enum tcx_direction direction, int *ret_link_fd,
	struct err **err)
{
	int type = direction == TCX_INGRESS ? ATTACH_TCX_INGRESS : ATTACH_TCX_EGRESS;
	int fd;

	if (ifindex <= 0 || direction >= TCX_DIRECTION_MAX)
		return err_set(err, EINVAL, "attach to interface %d: bad index or direction", ifindex);
	fd = bpf_link_create(prog_fd, ifindex, (enum bpf_attach_type)type, NULL);
	if (fd < 0)
		return err_errno(err, fd, "tcx link on interface %d, %s", ifindex,
			direction == TCX_INGRESS ? "ingress" : "egress");
	*ret_link_fd = fd;
	return 0;
}

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

static int refusal(struct err **err, int code, const char *what)
{
	char missing[96];
	struct utsname u = {0};

	missing_capabilities(missing, sizeof(missing));
	if (missing[0])
		return err_set(err, EOPNOTSUPP, "%s: %s (missing %s)", what, strerror(abs(code)),
			missing);
	uname(&u);
	return err_set(err, EOPNOTSUPP, "%s: %s (kernel %s)", what, strerror(abs(code)), u.release);
}

struct trial {
	struct err **err;
	int result;
};

/* The namespace is the thread's own and ends with it, so nothing has to be removed. */
static void *trial_thread(void *arg)
{
	/* r0 = TCX_NEXT (-1); exit */
	static const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	_cleanup_close_ int prog_fd = -1;
	struct trial *t = arg;
	unsigned loopback;

	if (unshare(CLONE_NEWNET) < 0) {
		t->result = refusal(t->err, errno, "make a network namespace");
		return NULL;
	}
	prog_fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "pgjolt_probe", "Dual BSD/GPL", pass,
		ELEMENTS(pass), NULL);
	if (prog_fd < 0) {
		t->result = refusal(t->err, prog_fd, "load a sched_cls BPF program");
		return NULL;
	}
	loopback = if_nametoindex("lo");
	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		_cleanup_close_ int link_fd = -1;
		int r = tcx_attach(prog_fd, (int)loopback, (enum tcx_direction)d, &link_fd, NULL);

		if (r < 0) {
			t->result = refusal(t->err, r,
				r == -EINVAL ? "make a tcx link (needs Linux 6.6 with CONFIG_NET_XGRESS)"
					     : "make a tcx link");
			return NULL;
		}
	}
	t->result = 0;
	return NULL;
}

int tcx_supported(struct err **err)
{
	static atomic_bool known;	/* what a kernel can do, it can do until it stops */
	struct trial t = {.err = err};
	sigset_t all, saved;
	pthread_t thread;
	int r;

	if (atomic_load(&known))
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	r = pthread_create(&thread, NULL, trial_thread, &t);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	if (r != 0)
		return err_errno(err, r, "start a thread for a network namespace");
	pthread_join(thread, NULL);
	if (t.result == 0)
		atomic_store(&known, true);
	return t.result;
}
