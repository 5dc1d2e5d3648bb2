/*
 * Network namespaces (network_namespaces(7), setns(2)). No code of ours runs for long in a foreign
 * one: a helper thread enters, does one thing, hands a descriptor back and ends. Descriptors keep
 * working outside.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "core/err.h"

/* /proc/PID/ns/net, opened O_CLOEXEC. */
int netns_open(pid_t pid, int *ret_fd, struct err **err);
/* Inode: the identity of the namespace while anything holds it. */
int netns_inode(int netns_fd, uint64_t *ret, struct err **err);
/* Inode of the caller's own. */
int netns_own_inode(uint64_t *ret, struct err **err);

/* Runs call(data, err) in a thread that has entered the namespace, waits, and returns what it
 * returned. The calling thread's own namespace never changes. */
int netns_run(int netns_fd, int (*call)(void *data, struct err **err), void *data,
	struct err **err);

/* A new namespace, with a loopback that is down; it ends with its last descriptor. -EOPNOTSUPP,
 * or what passes (kernel/refusal.h). */
int netns_new(int *ret_fd, struct err **err);
/* netns_run() in a new namespace, which ends with the call. */
int netns_try(int (*call)(void *data, struct err **err), void *data, struct err **err);

/* What no other namespace of this boot ever has (SO_NETNS_COOKIE, Linux 5.14), unlike the inode; 0
 * where the kernel is older. */
int netns_cookie(int netns_fd, uint64_t *ret, struct err **err);

/* The namespace of that inode, by a process that may be in it, any other process, or a place where it
 * is mounted, as ip-netns(8) and container runtimes do: in our own mount namespace, the node's first
 * process's, or a runtime's. *ret_fd is -1 when none of them has it: gone. What could not be looked at
 * for want of descriptors or memory is an error. */
int netns_find(pid_t likely, uint64_t inode, int *ret_fd, struct err **err);

/* socket(2) made inside. */
int netns_socket(int netns_fd, int family, int type, int protocol, int *ret_fd, struct err **err);
