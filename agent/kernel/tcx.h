/*
 * sched_cls programs on an interface as tcx links (Linux 6.6, include/uapi/linux/bpf.h
 * BPF_TCX_INGRESS/EGRESS). A link appends its program to the chain; closing the descriptor detaches
 * it: held. libbpf 1.1 predates tcx but its bpf_link_create() passes the types through.
 */
#pragma once

#include <stdbool.h>
#include "core/err.h"

enum tcx_direction { TCX_INGRESS, TCX_EGRESS, TCX_DIRECTION_MAX };

/* Appends to the end of the chain. Must run in the interface's namespace (netns_run). */
int tcx_attach(int prog_fd, int ifindex, enum tcx_direction direction, int *ret_link_fd,
	struct err **err);

/* Tries it for real on the loopback of a namespace of its own, which ends with the try; caches a
 * yes. 0, or -EOPNOTSUPP with what is missing (kernel, capability); any other error says nothing about the
 * kernel: it may pass. */
int tcx_supported(struct err **err);

/* A program that passes everything on, to try things with. */
int tcx_trial_program(int *ret_fd, struct err **err);
