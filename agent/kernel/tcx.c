#include "kernel/tcx.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdatomic.h>
#include "core/cleanup.h"
#include "kernel/link.h"
#include "kernel/netns.h"
#include "kernel/refusal.h"

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

/* In a namespace that ends with the try, so nothing has to be removed. */
static int try_links(void *data, struct err **err)
{
	_cleanup_close_ int prog_fd = -1;
	int r;

	(void)data;
	r = tcx_trial_program(&prog_fd, err);
	if (r < 0)
		return r;
	for (int d = 0; d < TCX_DIRECTION_MAX; d++) {
		_cleanup_close_ int link_fd = -1;

		r = tcx_attach(prog_fd, LINK_LOOPBACK, (enum tcx_direction)d, &link_fd,
			NULL);
		if (r < 0)
			return kernel_refusal(err, r,
				r == -EINVAL ? "make a tcx link (needs Linux 6.6 with CONFIG_NET_XGRESS)"
					     : "make a tcx link");
	}
	return 0;
}

int tcx_trial_program(int *ret_fd, struct err **err)
{
	/* r0 = TCX_NEXT (-1); exit */
	static const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "pgjolt_probe", "Dual BSD/GPL", pass,
		ELEMENTS(pass), NULL);

	if (fd < 0)
		return kernel_refusal(err, fd, "load a sched_cls BPF program");
	*ret_fd = fd;
	return 0;
}

int tcx_supported(struct err **err)
{
	static atomic_bool known;	/* what a kernel can do, it can do until it stops */
	int r;

	if (atomic_load(&known))
		return 0;
	r = netns_try(try_links, NULL, err);
	if (r == 0)
		atomic_store(&known, true);
	return r;
}
