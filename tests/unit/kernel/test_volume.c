#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "kernel/volume.h"

Test(volume, of_our_own_folder)
{
	struct volume_space space;
	struct volume v;
	struct stat st;

	cr_assert_eq(stat("/tmp", &st), 0);
	cr_assert_eq(volume_open(getpid(), "/tmp", &v, NULL), 0);
	cr_expect_eq(v.dev, st.st_dev);
	cr_expect_not_null(v.mount.type);
	cr_expect_gt(strlen(v.mount.source), 0);
	cr_assert_eq(volume_space(v.dir_fd, &space, NULL), 0);
	cr_expect_gt(space.total_bytes, 0);
	cr_expect_leq(space.free_bytes, space.total_bytes);
	volume_done(&v);
	cr_expect_eq(v.dir_fd, -1);
}

Test(volume, dots_stay_in_the_root)
{
	struct volume v;
	struct stat root, st;

	cr_assert_eq(volume_open(getpid(), "/../../..", &v, NULL), 0);
	cr_assert_eq(fstat(v.dir_fd, &st), 0);
	cr_assert_eq(stat("/", &root), 0);
	cr_expect_eq(st.st_ino, root.st_ino);
	volume_done(&v);
}

Test(volume, what_is_not_there)
{
	struct volume v;

	cr_expect_eq(volume_open(getpid(), "/no/such/folder", &v, NULL), -ENOENT);
	cr_expect_eq(volume_open(getpid(), "/etc/passwd", &v, NULL), -ENOTDIR);
	cr_expect_lt(volume_open(getpid(), "/proc/self/root", &v, NULL), 0, "a magic link");
	cr_expect_eq(volume_open(4194304 + 1, "/tmp", &v, NULL), -ESRCH);
}

Test(volume, an_unnamed_file_never_gets_a_name)
{
	char link[64], name[] = "/tmp/pj-volume-XXXXXX";
	struct volume v;
	struct stat st;
	int fd;

	cr_assert_eq(volume_open(getpid(), "/tmp", &v, NULL), 0);
	if (volume_unnamed_file(&v, &fd, NULL) == -EOPNOTSUPP)
		cr_skip_test("no O_TMPFILE in /tmp");
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_nlink, 0);
	cr_expect_eq(st.st_dev, v.dev);
	cr_assert_not_null(mkdtemp(name));
	cr_assert_eq(rmdir(name), 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	cr_expect_lt(linkat(-1, link, -1, name, 0x400), 0);
	close(fd);
	volume_done(&v);
}

Test(volume, devices_are_whole_disks)
{
	struct volume v = {.dir_fd = -1, .mount = {.type = strdup("proc"), .source = strdup("proc")}};
	char path[96];
	dev_t dev;

	cr_expect_eq(volume_device(&v, &dev, NULL), -EOPNOTSUPP);
	free(v.mount.source);
	v.mount.source = strdup("/dev/null");		/* no block device */
	cr_expect_eq(volume_device(&v, &dev, NULL), -EOPNOTSUPP);
	volume_done(&v);
	cr_assert_eq(volume_open(getpid(), "/", &v, NULL), 0);
	if (volume_device(&v, &dev, NULL) == 0) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
		cr_expect_eq(access(path, F_OK), 0, "%s", path);
		strcat(path, "/partition");
		cr_expect_neq(access(path, F_OK), 0, "%s", path);
	}
	volume_done(&v);
}
