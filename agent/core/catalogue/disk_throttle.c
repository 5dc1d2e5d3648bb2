#include "core/catalogue.h"
#include "core/catalogue/volume_params.h"

static const struct param_spec params[] = {
	VOLUME_PARAM,
	{.name = "read-bytes", .type = PARAM_BYTES, .min = 1024,
		.help = "Bytes read a second, at most."},
	{.name = "write-bytes", .type = PARAM_BYTES, .min = 1024,
		.help = "Bytes written a second, at most."},
	{.name = "read-operations", .type = PARAM_COUNT, .min = 1, .max = 4294967295,
		.help = "Reads a second, at most."},
	{.name = "write-operations", .type = PARAM_COUNT, .min = 1, .max = 4294967295,
		.help = "Writes a second, at most; what a device and its file system make of an fsync "
			"counts too."},
};

static const struct fault_example examples[] = {
	{"disk-throttle --target lab/pg1 --for 60s --write-bytes 1MiB",
		"A volume that writes 1 MiB a second."},
	{"disk-throttle --target lab/pg1 --for 60s --volume wal --write-operations 50",
		"A cloud disk whose burst credit is used up: 50 writes a second for the WAL."},
	{"disk-throttle --target lab/pg2 --for 5m --read-bytes 2MiB --write-bytes 2MiB",
		"Slow a replica's disk both ways."},
};

static int check(const struct params *p, struct err **err)
{
	if (!params_is_set(p, "read-bytes") && !params_is_set(p, "write-bytes") &&
	    !params_is_set(p, "read-operations") && !params_is_set(p, "write-operations"))
		return err_set(err, -EINVAL,
			"one of read-bytes, write-bytes, read-operations, write-operations is required");
	return 0;
}

const struct fault_spec fault_disk_throttle = {
	.name = "disk-throttle",
	.summary = "Limit the throughput of an instance's disk",
	.description =
		"Limits bytes or operations a second between the instance's cgroup and the device "
		"of a volume, as a cloud disk limits its tenants. Others on the same device are not "
		"touched.\n\n"
		"The device is the whole disk below the mount, whatever partition. In v1, what the "
		"kernel writes back later by itself is not counted; what PostgreSQL fsyncs is. "
		"A limit that is there already and is stricter is refused, as it would be loosened. The "
		"evidence counts bytes and operations since the fault fired.",
	.mechanism =
		"io.max of the instance's cgroup (v2), or blkio.throttle.* where the io controller is "
		"in v1, for the major:minor of the disk.",
	.needs =
		"CONFIG_BLK_DEV_THROTTLING, the io (v1: blkio) controller in the instance's cgroup, a "
		"cgroup that is the instance's own, and a volume on a block device of this node. The "
		"root cgroup, overlay, tmpfs and network file systems are refused.",
	.leaves =
		"The limits stay until an agent starts again and writes back what its journal names, "
		"or \"pgjolt-agent revert-all\" does.",
	.lifetime = LIFETIME_JOURNALED,
	CATALOGUE_LISTS,
	.check = check,
};
