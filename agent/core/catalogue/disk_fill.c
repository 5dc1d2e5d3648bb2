#include "core/catalogue.h"
#include "core/catalogue/volume_params.h"

static const struct param_spec params[] = {
	VOLUME_PARAM,
	{.name = "leave", .type = PARAM_BYTES,
		.help = "So much stays free for PostgreSQL, at most; 0 leaves nothing (the default "
			"where fill is not given either)."},
	{.name = "fill", .type = PARAM_PERCENT, .min = 1, .max = 1000000,
		.help = "Fill it up to this share, as df shows it, what was used before included."},
};

static const struct fault_example examples[] = {
	{"disk-fill --target lab/pg1 --for 60s --volume wal",
		"Leave nothing for the WAL: PostgreSQL stops when it needs its next segment."},
	{"disk-fill --target lab/pg1 --for 5m --fill 95%",
		"Bring a volume over the threshold of its alarm."},
	{"disk-fill --target lab/pg2 --for 60s --leave 64MiB",
		"Leave a replica room for four WAL segments."},
};

static int check(const struct params *p, struct err **err)
{
	if (params_is_set(p, "leave") && params_is_set(p, "fill"))
		return err_set(err, -EINVAL, "leave: fill is given too, and one of them says how far");
	return 0;
}

const struct fault_spec fault_disk_fill = {
	.name = "disk-fill",
	.summary = "Fill the disk of an instance",
	.description =
		"Takes the free space of the volume of PGDATA or of the WAL, down to leave bytes "
		"or up to fill percent. While it is active it takes again what PostgreSQL gives "
		"back, so a restart or a checkpoint does not help.\n\n"
		"A full data volume makes statements fail that need a new page, and leaves the rest "
		"working. A full WAL volume makes PostgreSQL PANIC and end; it cannot start again "
		"before there is space. Managers differ in whether they fail over.\n\n"
		"Refused for the node's own disk: a file system that is also the node's or the agent's "
		"/, /var, /var/lib/kubelet, /run, /tmp or the journal's, another subvolume of it "
		"(Btrfs) or data set of its pool (ZFS) included; a container's own layer "
		"(overlay); memory (tmpfs). The evidence has the bytes that were taken and what is "
		"free.",
	.mechanism =
		"fallocate(2), or written blocks where the file system has none, in an unnamed file "
		"(O_TMPFILE, Linux 3.11) on the volume, opened through /proc/PID/root.",
	.needs =
		"A volume of the instance's own whose file system has O_TMPFILE (ext4, xfs, btrfs; not "
		"NFS). CAP_SYS_PTRACE and CAP_SYS_ADMIN to see the instance's files, CAP_DAC_OVERRIDE.",
	.leaves =
		"Nothing: a file without a name is gone with its last descriptor, so the kernel gives "
		"the space back when the agent dies.",
	.lifetime = LIFETIME_HELD,
	CATALOGUE_LISTS,
	.check = check,
};
