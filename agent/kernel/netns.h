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

/* socket(2) made inside. */
int netns_socket(int netns_fd, int family, int type, int protocol, int *ret_fd, struct err **err);
