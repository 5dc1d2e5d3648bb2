#include <criterion/criterion.h>
#include "core/cleanup.h"
#include "kernel/mountinfo.h"

static bool shares(const char *one, const char *other)
{
	_cleanup_(mount_entry_done) struct mount_entry a = {0}, b = {0};

	cr_assert_eq(mount_parse(one, &a, NULL), 0, "%s", one);
	cr_assert_eq(mount_parse(other, &b, NULL), 0, "%s", other);
	return mount_shares_space(&a, &b);
}

Test(mountinfo, subvolumes_share_their_space)
{
	const char root[] = "61 1 0:33 /root / rw,relatime shared:1 - btrfs /dev/nvme0n1p3 rw,subvolid=257";
	const char data[] = "910 880 0:33 /data /var/lib/pgsql rw - btrfs /dev/nvme0n1p3 rw,subvolid=301";
	const char bind[] = "911 880 0:33 /data/16 /mnt rw - btrfs /dev/disk/by-id/another-name rw";
	const char other[] = "912 880 0:47 /data /var/lib/pgsql rw - btrfs /dev/nvme1n1 rw,subvolid=257";

	cr_expect(shares(root, data));
	cr_expect(shares(data, bind), "a name is no identity");
	cr_expect_not(shares(root, other));
}

Test(mountinfo, other_file_systems_are_their_device)
{
	const char root[] = "27 1 254:0 / / rw,relatime - ext4 /dev/root rw,discard";
	const char bind[] = "130 90 254:0 /srv/pg /data rw,relatime - ext4 /dev/vda rw";
	const char other[] = "131 90 254:16 / /data rw,relatime - ext4 /dev/root rw";

	cr_expect(shares(root, bind));
	cr_expect_not(shares(root, other));
}

Test(mountinfo, data_sets_share_their_pool)
{
	const char root[] = "30 1 0:28 / / rw - zfs rpool/ROOT/debian rw,xattr";
	const char data[] = "31 30 0:51 / /data rw - zfs rpool/data rw,xattr";
	const char pool[] = "32 30 0:52 / /rpool rw - zfs rpool rw,xattr";
	const char other[] = "33 30 0:53 / /data rw - zfs rpool2/data rw,xattr";
	const char share[] = "34 30 0:54 / /data rw - nfs4 rpool/data rw";

	cr_expect(shares(root, data) && shares(pool, data));
	cr_expect_not(shares(root, other) || shares(pool, other));
	cr_expect_not(shares(root, share), "not a pool's");
}
