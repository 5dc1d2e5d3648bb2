/*
 * The distributed configuration store of an instance's manager, by what the instance's network
 * namespace really talks to: established TCP connections to the stores' well-known client ports
 * (etcd 2379 and 4001, Consul 8500 and 8501, ZooKeeper 2181). Clients of a store change between its members, so
 * what is told is the port ("all:2379"), not the one member of this moment.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "core/err.h"

/* Reads /proc/PID/net/tcp and tcp6 (proc_pid_net(5)). *ret: peer texts, NULL-terminated, may be
 * NULL for none; caller strv_free()s. */
int dcs_find(pid_t pid, char ***ret, struct err **err);

/* Is it one of those client ports? */
bool dcs_is_store_port(unsigned port);
