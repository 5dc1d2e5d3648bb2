/*
 * The vDSO (vdso(7)): the code of the kernel's that a process reads clocks with. All 64-bit processes
 * of a node map the same image; a write through /proc/PID/mem gives a process private copies of
 * the pages it hits, which its children inherit and an exec drops. Some kernels let only the thread that
 * traces a process write so (proc_mem.force_override=ptrace, Linux 6.12).
 *
 * A skew is code in the zero padding behind the image, entered by a jump over the first bytes of each
 * clock function, and data before that code. It skews nothing before its start and after its end:
 * it compares the clock that it has just read. No policy here, and no stopping of processes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

#define VDSO_SIZE_MAX (64UL << 10)
/* Linux's clock ids 0 (CLOCK_REALTIME) to 11 (CLOCK_TAI). */
#define VDSO_CLOCKS 12

struct vdso_symbol {
	uint32_t offset, size;	/* in the image; size 0: it has none */
};

struct vdso_image {
	uint8_t *bytes;
	size_t size;
	size_t padding;		/* zero bytes from here to the end; aligned to 64 */
	struct vdso_symbol clock_gettime, gettimeofday, time;
};

/* Our own, as the kernel gave it: nothing ever writes into the agent's. -ENOENT: the node gives none
 * (vdso=0). Free with vdso_image_done(). */
int vdso_own(struct vdso_image *ret, struct err **err);
/* Finds the three functions and the padding in an ELF image; takes a copy. Everything in it is
 * checked. -EBADMSG. */
int vdso_parse(const void *bytes, size_t size, struct vdso_image *ret, struct err **err);
void vdso_image_done(struct vdso_image *i);

/* Clock values in ns; what lies outside of [start, start + length) is told as it is. */
struct vdso_skew {
	uint64_t token;			/* whose it is; never 0 */
	uint64_t length_ns;		/* less than 2^62 */
	int64_t offset_ns;
	int32_t drift_ppm;		/* from the start on, on top of the offset */
	uint64_t strobe_ns;		/* so long skewed, so long not; 0: always skewed */
	uint64_t start_ns[VDSO_CLOCKS];	/* UINT64_MAX: this clock stays right */
};

/* What is written over an image: entries (a few bytes each) and the block in the padding. */
struct vdso_patch {
	const char *mechanism;	/* "detour", or "stub" where reads cost a system call; static */
	const char *remark;	/* why no detour; static, else NULL */
	uint8_t *bytes;		/* the image with all of it; size as the image's */
	size_t size;
	size_t block;		/* where the block begins: struct vdso_block */
	size_t block_size;
};

/* The first bytes of the block, the same on every machine. */
struct vdso_block {
	uint64_t magic, token;
	uint64_t length_ns;	/* 0 written here ends the skew at once, with nothing stopped */
};
#define VDSO_MAGIC 0x77656b73746c6f6aULL	/* "joltskew" */

/* -EOPNOTSUPP with the reason: no code for this machine, no room. stub: no detour even where it
 * could be. Free with vdso_patch_done(). */
int vdso_patch_build(const struct vdso_image *image, const struct vdso_skew *skew, bool stub,
	struct vdso_patch *ret, struct err **err);
void vdso_patch_done(struct vdso_patch *p);

/* Another process's. Keep it short: it pins the process's memory. */
struct vdso_process {
	pid_t pid;
	int fd;			/* /proc/PID/mem */
	uint64_t address;
	size_t size;
	uint8_t *bytes;		/* as they were read last */
};

/*
 * -ESRCH: it is gone, or has no memory of its own (a zombie, a kernel thread). -ENOENT: it maps none.
 * -EMEDIUMTYPE: one of another kind than ours (a 32-bit process).
 */
int vdso_open(pid_t pid, const struct vdso_image *own, struct vdso_process *ret, struct err **err);
void vdso_close(struct vdso_process *p);
/* Its block, if it has one by the magic; reads nothing anew. */
bool vdso_block_of(const struct vdso_process *p, size_t block, struct vdso_block *ret);
/* Writes some bytes of it. -ESRCH. -EACCES: only its tracer may, or nobody. */
int vdso_write(struct vdso_process *p, size_t offset, const void *bytes, size_t size, struct err **err);
/* Makes [from, to) as in the image wanted; writes only what differs, a jump at once. -ESRCH,
 * -EACCES. */
int vdso_make(struct vdso_process *p, const uint8_t *wanted, size_t from, size_t to, struct err **err);
/* Ends the skew of its block; its threads may run. -ESRCH, -EACCES. */
int vdso_block_end(struct vdso_process *p, size_t block, struct err **err);

/* Where one of its threads, which stands or waits in the kernel, goes on. */
struct vdso_place {
	bool known;		/* false: it runs */
	bool inside;		/* in the vDSO, at this offset */
	uint64_t offset, stack;
	pid_t tid;
};
struct vdso_place vdso_place_of(const struct vdso_process *p, pid_t tid);
/* Would it go on in the middle of what a jump is written over? */
bool vdso_needs_entries(const struct vdso_place *place, const struct vdso_image *own);
/* Would it go on in the block, or return there? */
bool vdso_needs_block(const struct vdso_process *p, const struct vdso_place *place,
	const struct vdso_image *own);
