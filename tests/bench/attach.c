/*
 * Where the time to arm a network fault goes: attach COUNT
 *
 * In a network namespace of its own, on its loopback, with a program of two instructions: tcx links
 * made and closed one after another, two at once from two threads, and, beside them, links to a
 * netfilter hook. membarrier(2) MEMBARRIER_CMD_GLOBAL is the kernel's synchronize_rcu() and nothing
 * else (kernel/sched/membarrier.c), so it shows what one RCU grace period costs here. A line each:
 * NAME NANOSECONDS.
 */
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/clock.h"
#include "core/cleanup.h"
#include "kernel/tcx.h"

/* Linux 6.4; older headers lack them. */
#define PROG_TYPE_NETFILTER 32
#define ATTACH_NETFILTER    45
#define NF_INET_LOCAL_IN    1

/* union bpf_attr of BPF_LINK_CREATE, as far as a netfilter link needs it. */
struct netfilter_link {
	uint32_t prog_fd, target_fd, attach_type, flags;
	uint32_t family, hook;
	int32_t priority;
	uint32_t hook_flags;
};

static int load(enum bpf_prog_type type, int verdict, enum bpf_attach_type expected)
{
	const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = expected);

	return bpf_prog_load(type, "pgjolt_bench", "Dual BSD/GPL", insns, ELEMENTS(insns), &opts);
}

static void tell(const char *name, uint64_t since_ns)
{
	printf("%s %ju\n", name, (uintmax_t)(now_ns() - since_ns));
}

static void fail(const char *what, struct err *err)
{
	fprintf(stderr, "%s: %s\n", what, err ? err_text(err) : strerror(errno));
	exit(1);
}

static void tcx_one(int prog_fd, int loopback, enum tcx_direction direction)
{
	_cleanup_err_ struct err *err = NULL;
	uint64_t start = now_ns();
	int fd;

	if (tcx_attach(prog_fd, loopback, direction, &fd, &err) < 0)
		fail("tcx", err);
	tell("tcx-attach", start);
	start = now_ns();
	close(fd);
	tell("tcx-detach", start);
}

struct half {
	int prog_fd, loopback, fd;
	enum tcx_direction direction;
	pthread_t thread;
};

static void *half_attach(void *data)
{
	struct half *h = data;

	if (tcx_attach(h->prog_fd, h->loopback, h->direction, &h->fd, NULL) < 0)
		h->fd = -1;
	return NULL;
}

static void tcx_two_at_once(int prog_fd, int loopback)
{
	struct half halves[] = {
		{.prog_fd = prog_fd, .loopback = loopback, .fd = -1, .direction = TCX_INGRESS},
		{.prog_fd = prog_fd, .loopback = loopback, .fd = -1, .direction = TCX_EGRESS},
	};
	uint64_t start = now_ns();

	for (size_t i = 0; i < ELEMENTS(halves); i++)
		if (pthread_create(&halves[i].thread, NULL, half_attach, &halves[i]) != 0)
			fail("thread", NULL);
	for (size_t i = 0; i < ELEMENTS(halves); i++)
		pthread_join(halves[i].thread, NULL);
	tell("tcx-attach-two-at-once", start);
	for (size_t i = 0; i < ELEMENTS(halves); i++)
		if (halves[i].fd < 0 || close(halves[i].fd) < 0)
			fail("tcx in two threads", NULL);
}

/* false: this kernel has none. */
static bool netfilter_one(int prog_fd)
{
	struct netfilter_link link = {
		.prog_fd = (uint32_t)prog_fd,
		.attach_type = ATTACH_NETFILTER,
		.family = AF_INET,
		.hook = NF_INET_LOCAL_IN,
		.priority = 1,
	};
	uint64_t start = now_ns();
	int fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));

	if (fd < 0)
		return false;
	tell("netfilter-attach", start);
	start = now_ns();
	close(fd);
	tell("netfilter-detach", start);
	return true;
}

int main(int argc, char **argv)
{
	long count = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
	int sched_cls, netfilter, loopback;

	if (count < 1 || count > 100000) {
		fprintf(stderr, "usage: attach COUNT\n");
		return 2;
	}
	if (unshare(CLONE_NEWNET) < 0)
		fail("network namespace", NULL);
	loopback = (int)if_nametoindex("lo");
	sched_cls = load(BPF_PROG_TYPE_SCHED_CLS, -1, 0);
	netfilter = load((enum bpf_prog_type)PROG_TYPE_NETFILTER, 1,
		(enum bpf_attach_type)ATTACH_NETFILTER);
	if (sched_cls < 0)
		fail("load", NULL);
	for (long i = 0; i < count; i++) {
		uint64_t start;

		tcx_one(sched_cls, loopback, i % 2 ? TCX_INGRESS : TCX_EGRESS);
		tcx_two_at_once(sched_cls, loopback);
		if (netfilter >= 0 && !netfilter_one(netfilter))
			netfilter = -1;
		start = now_ns();
		if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0)
			tell("grace-period", start);
	}
	return 0;
}
