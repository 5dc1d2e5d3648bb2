/*
 * The syscall gate: calls of chosen processes held on their way out until due, or their result
 * changed. A BPF program (bpf/syscall_pick.bpf.c, on the raw tracepoint sys_exit) picks the calls and
 * sends the thread SIGCONT, harmless by itself; the processes are seized (hold/ptrace_hold.h), so
 * that signal stops the thread before its tracer, without system call stops. held: the program goes
 * with its link, the stops go with the tracer.
 *
 * A SIGCONT that somebody else sent is passed on: only threads that the program has noted are ours.
 */
#pragma once

#include <stddef.h>
#include "core/err.h"
#include "hold/gate.h"
#include "kernel/proc.h"

struct syscall_gate;

/* A directory tree in which files are looked for; device 0: cannot be known from outside. */
struct syscall_gate_tree {
	uint64_t device, inode;
	enum disk_class class;
};

struct syscall_gate_plan {
	const char *owner;			/* as in struct ptrace_hooks */
	const struct gate_effect *effect;	/* with code: opens cannot be among the operations */
	const struct gate_filter *filter;	/* path and process NULL: the program's own choice is all */
	pid_t postmaster;
	const struct syscall_gate_tree *trees;
	size_t n_trees;
	unsigned classes;			/* bits */
	bool shared;	/* a file gate takes reads and writes too, and tells by syscall_gate_skip() */
};

/* Loads the program and starts the tracer; nothing is seized, nothing is sent. */
int syscall_gate_new(const struct syscall_gate_plan *plan, struct syscall_gate **ret,
	struct err **err);
/* As ptrace_hold_seize(). */
int syscall_gate_seize(struct syscall_gate *g, const struct proc_id *ids, size_t count,
	size_t *ret_new, struct err **err);
/* Attaches the program, inert. */
int syscall_gate_attach(struct syscall_gate *g, struct err **err);
/* Opens it: one store. */
void syscall_gate_fire(struct syscall_gate *g, uint64_t until_boot_ns);

/* The call that this thread is in has been through the file gate: it is not for this one. Any thread
 * of the agent may say so, while the call has not returned. */
void syscall_gate_skip(const struct syscall_gate *g, pid_t tid);

void syscall_gate_counts(const struct syscall_gate *g, struct gate_counts *ret);
/* Calls that could not be brought before the tracer. */
uint64_t syscall_gate_missed(const struct syscall_gate *g);
/* Processes that are seized now. */
size_t syscall_gate_processes(const struct syscall_gate *g);
/* Id of the BPF program: gone when the gate is. */
int syscall_gate_program_id(const struct syscall_gate *g, uint32_t *ret, struct err **err);

/* Lets everything go, detaches. Takes NULL. */
void syscall_gate_free(struct syscall_gate *g);
DEFINE_CLEANUP(struct syscall_gate, syscall_gate_free)
