#include "core/catalogue.h"
#include "core/catalogue/volume_params.h"

static const char *const pattern_choices[] = {"sequential", "random", "fsync-storm", "read", NULL};

static const struct param_spec params[] = {
	VOLUME_PARAM,
	{.name = "pattern", .type = PARAM_ENUM, .fallback = "random", .choices = pattern_choices,
		.help = "sequential and random: writes. fsync-storm: writes, with an fdatasync after "
			"each. read: random reads, of what was written first."},
	{.name = "workers", .type = PARAM_COUNT, .fallback = "2", .min = 1, .max = 64,
		.help = "Processes that do it, each in its own part of the file."},
	{.name = "size", .type = PARAM_BYTES, .fallback = "128MiB", .min = 1048576,
		.max = 1099511627776, .help = "Of the file, which is all that the volume loses."},
	{.name = "block-size", .type = PARAM_BYTES, .fallback = "64KiB", .min = 4096, .max = 16777216,
		.help = "Of one read or write; a multiple of 4KiB."},
	{.name = "rate", .type = PARAM_BYTES, .min = 4096,
		.help = "Bytes a second, of all workers together; without it, as fast as it goes."},
};

static const struct fault_example examples[] = {
	{"disk-stress --target lab/pg2 --for 60s --workers 4",
		"An I/O storm of random writes on a replica's volume."},
	{"disk-stress --target lab/pg1 --for 30s --volume wal --pattern fsync-storm --block-size 8KiB",
		"Make every flush of the WAL wait for others' flushes."},
	{"disk-stress --target lab/pg1 --for 5m --pattern read --size 1GiB --rate 50MiB",
		"A backup that reads 50 MiB a second."},
};

static int check(const struct params *p, struct err **err)
{
	uint64_t block = params_number(p, "block-size");

	if (block % 4096 != 0)
		return err_set(err, -EINVAL, "block-size: must be a multiple of 4KiB");
	if (params_number(p, "size") / block < params_number(p, "workers"))
		return err_set(err, -EINVAL, "size: is less than one block-size for each of the workers");
	return 0;
}

const struct fault_spec fault_disk_stress = {
	.name = "disk-stress",
	.summary = "Load the disk of an instance",
	.description =
		"Processes in the instance's cgroup read or write a file on its volume: they share the "
		"device's queue, the file system's journal and the cgroup's limits with PostgreSQL, "
		"as a backup, a vacuum or a noisy neighbour does.\n\n"
		"A size that would leave less than a twentieth of the volume (32 MiB at least) is "
		"refused; disk-fill is for full disks. Where O_DIRECT does not work the writes are "
		"flushed instead. The evidence has bytes and operations a second that were reached, "
		"the errors, and whether an io controller (v1: blkio) applies to the instance's cgroup: without "
		"one the workers share the device with PostgreSQL, but no limit.",
	.mechanism =
		"Worker processes forked from the agent into every cgroup of the instance (v2 and v1), "
		"with PR_SET_PDEATHSIG; O_DIRECT on an unnamed file (O_TMPFILE) on the volume.",
	.needs =
		"A cgroup that is the instance's own (the root cgroup is refused), and a volume whose "
		"file system has O_TMPFILE (ext4, xfs, btrfs; not NFS).",
	.leaves =
		"Nothing: the kernel kills the workers when the agent dies, and the file goes with "
		"them.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
