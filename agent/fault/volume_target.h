/* The volume of an instance that a disk fault acts on. */
#pragma once

#include "core/err.h"
#include "core/wire.h"
#include "kernel/volume.h"

/* Indices are those of the parameter's choices, volume_words. */
enum volume_which { VOLUME_DATA, VOLUME_WAL, VOLUME_WHICH_MAX };
extern const char *const volume_words[VOLUME_WHICH_MAX];

/* Of PGDATA, or of what pg_wal leads to. -ESTALE when the instance is gone. */
int volume_target_open(const struct instance_info *i, enum volume_which which, struct volume *ret,
	struct err **err);

/*
 * -EPERM where filling it would fill more than the instance's own volume: the file system of the
 * node's or the agent's /, /var, /var/lib, /var/lib/kubelet, /run, /tmp, or of `journal` (may be
 * NULL), another subvolume of it (Btrfs) or another data set of its pool (ZFS) included; a container's
 * own layer (overlay); memory (tmpfs).
 */
int volume_refuse_node_disk(const struct volume *v, const char *journal, struct err **err);
