// SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
/*
 * Picks calls for the syscall gate: on the way out of a call of the instance's, on a file of it, sends the thread
 * SIGCONT, which stops it before its tracer. One store into until_boot_ns opens and shuts it; past
 * that time it is inert by itself.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "bpf/syscall_gate.h"
#include "bpf/syscall_regs.bpf.h"

char LICENSE[] SEC("license") = "GPL";

#define SIGCONT		18
#define ANCESTORS_MAX	6
#define PID_LEVELS_MAX	4
#define FOLDERS_MAX	8
#define IS_FILE(mode)	(((mode) & 0170000) == 0100000)
#define NAME_MAX	16

struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));
struct pid_namespace {
	struct ns_common ns;
} __attribute__((preserve_access_index));
struct upid {
	int nr;
	struct pid_namespace *ns;
} __attribute__((preserve_access_index));
struct pid {
	unsigned int level;
	struct upid numbers[1];
} __attribute__((preserve_access_index));
struct super_block {
	unsigned int s_dev;
} __attribute__((preserve_access_index));
struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
} __attribute__((preserve_access_index));
struct qstr {
	const unsigned char *name;
} __attribute__((preserve_access_index));
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
} __attribute__((preserve_access_index));
struct path {
	struct dentry *dentry;
} __attribute__((preserve_access_index));
struct file {
	struct inode *f_inode;
	struct path f_path;
} __attribute__((preserve_access_index));
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} __attribute__((preserve_access_index));
struct files_struct {
	struct fdtable *fdt;
} __attribute__((preserve_access_index));
struct task_struct {
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct files_struct *files;
} __attribute__((preserve_access_index));

const volatile __u32 postmaster;	/* its pid in pid_namespace */
const volatile __u32 pid_namespace;	/* inode of the agent's */
const volatile __u8 operations[SYSCALL_GATE_CALLS];	/* 0: none, else enum disk_operation + 1 */
const volatile __u8 operation_open;	/* in the same way */
const volatile struct syscall_gate_area areas[SYSCALL_GATE_AREAS];
const volatile __u32 n_areas;		/* 0: every file; the tracer looks by path */
const volatile __u32 classes;		/* bits; of those that pass to the tracer */
const volatile __u32 class_wal, class_temp;
const volatile __u32 chance_ppm = SYSCALL_GATE_PPM;
const volatile __u32 shared_operations;	/* bits, likewise + 1: the file gate takes them too */

volatile __u64 until_boot_ns;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SYSCALL_GATE_PENDING);
	__type(key, __u32);
	__type(value, struct syscall_gate_event);
} pending SEC(".maps");

/* Threads in a call that has been through the file gate: it is not picked again. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SYSCALL_GATE_PENDING);
	__type(key, __u32);
	__type(value, __u8);
} taken SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syscall_gate_count);
} counts SEC(".maps");

/* The thread's id in the agent's pid namespace, 0 if it has none there. */
static __always_inline __u32 id_of(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	const void *numbers = (const void *)pid + bpf_core_field_offset(struct pid, numbers);
	__u32 level = BPF_CORE_READ(pid, level);

	for (__u32 i = 0; i < PID_LEVELS_MAX; i++) {
		const struct upid *u = numbers + i * bpf_core_type_size(struct upid);

		if (!pid || i > level)
			break;
		if (BPF_CORE_READ(u, ns, ns.inum) == pid_namespace)
			return BPF_CORE_READ(u, nr);
	}
	return 0;
}

static __always_inline bool is_of_instance(struct task_struct *task)
{
	for (int i = 0; i < ANCESTORS_MAX; i++) {
		__u32 id;

		task = BPF_CORE_READ(task, group_leader);
		id = id_of(task);
		if (id == postmaster)
			return true;
		if (id <= 1)
			return false;
		task = BPF_CORE_READ(task, real_parent);
	}
	return false;
}

static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

/* pgsql_tmp..., and tBACKEND_FILE: a session's temporary table. */
static __always_inline bool is_temporary(struct dentry *file)
{
	char name[NAME_MAX] = {};
	bool digits = false;

	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(file, d_name.name));
	if (name[0] == 'p' && name[1] == 'g' && name[2] == 's' && name[5] == '_' && name[6] == 't')
		return true;
	if (name[0] != 't')
		return false;
	for (int i = 1; i < NAME_MAX; i++) {
		if (name[i] == '_')
			return digits;
		if (name[i] < '0' || name[i] > '9')
			return false;
		digits = true;
	}
	return false;
}

/* By the nearest of the areas above it; -1: in none. */
static __always_inline int class_of(struct file *file)
{
	__u32 device = BPF_CORE_READ(file, f_inode, i_sb, s_dev);
	struct dentry *leaf = BPF_CORE_READ(file, f_path.dentry), *d = leaf;

	for (int depth = 0; depth < FOLDERS_MAX; depth++) {
		struct dentry *parent = BPF_CORE_READ(d, d_parent);
		__u64 inode = BPF_CORE_READ(parent, d_inode, i_ino);

		for (__u32 i = 0; i < SYSCALL_GATE_AREAS; i++) {
			if (i >= n_areas)
				break;
			if (areas[i].inode != inode || areas[i].device != device)
				continue;
			if (areas[i].class != class_wal && is_temporary(leaf))
				return class_temp;
			return areas[i].class;
		}
		if (parent == d)
			break;
		d = parent;
	}
	return -1;
}

static __always_inline void send(struct task_struct *task, struct syscall_gate_event *e,
	struct syscall_gate_count *count)
{
	__u32 id = id_of(task);

	if (bpf_map_update_elem(&pending, &id, e, BPF_ANY) < 0) {
		count->missed++;
		return;
	}
	if (bpf_send_signal_thread(SIGCONT) < 0) {
		bpf_map_delete_elem(&pending, &id);
		count->missed++;
		return;
	}
	count->sent++;
}

SEC("raw_tp/sys_exit")
int syscall_pick(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct syscall_gate_event e = {.result = (__s64)ctx->args[1], .class = SYSCALL_GATE_NO_CLASS};
	__u64 until = until_boot_ns, call;
	struct syscall_gate_count *count;
	struct task_struct *task;
	struct file *file;
	__u32 zero = 0;
	int class;
	__u8 operation;

	if (!until)
		return 0;
	call = REGS_CALL(regs);
	if (call >= SYSCALL_GATE_CALLS)
		return 0;
	/* Before Linux 6.8 the verifier forgets the comparison where the number is spilled to the stack. */
	barrier_var(call);
	operation = operations[call & (SYSCALL_GATE_CALLS - 1)];
	if (!operation)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	if (shared_operations & 1U << (operation & 31)) {
		__u32 id = id_of(task);

		if (bpf_map_delete_elem(&taken, &id) == 0)
			return 0;
	}
	if (e.result < 0 || !is_of_instance(task) || bpf_ktime_get_boot_ns() >= until)
		return 0;
	e.fd = operation == operation_open ? (__s32)e.result : (__s32)REGS_FIRST(regs);
	file = file_of(task, (__u32)e.fd);
	if (!file || !IS_FILE(BPF_CORE_READ(file, f_inode, i_mode)))
		return 0;
	if (n_areas) {
		class = class_of(file);
		if (class < 0 || !(classes & 1U << (class & 31)))
			return 0;
		e.class = (__u8)class;
	}
	count = bpf_map_lookup_elem(&counts, &zero);
	if (!count)
		return 0;
	count->seen++;
	if (chance_ppm < SYSCALL_GATE_PPM && bpf_get_prandom_u32() % SYSCALL_GATE_PPM >= chance_ppm)
		return 0;
	e.at_ns = bpf_ktime_get_ns();
	e.call = (__u32)call;
	e.operation = operation - 1;
	send(task, &e, count);
	return 0;
}
