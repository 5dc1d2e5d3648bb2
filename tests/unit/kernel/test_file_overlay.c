#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "kernel/file_overlay.h"
#include "kernel/mountinfo.h"
#include "kernel/root.h"

Test(mountinfo, lines)
{
	struct mount_entry m;

	cr_assert_eq(mount_parse("36 35 98:1 /a /mnt\\0402 rw,noatime shared:1 master:2 - ext3 /dev/ro\\134ot rw",
			&m, NULL), 0);
	cr_expect_eq(m.id, 36);
	cr_expect_eq(m.dev, makedev(98, 1));
	cr_expect(m.shared);
	cr_expect_str_eq(m.point, "/mnt 2");
	cr_expect_str_eq(m.type, "ext3");
	cr_expect_str_eq(m.source, "/dev/ro\\ot");
	mount_entry_done(&m);
	cr_assert_eq(mount_parse("1 0 0:2 / / rw - tmpfs shared:x rw", &m, NULL), 0);
	cr_expect_not(m.shared, "that is the source");
	mount_entry_done(&m);
	cr_expect_eq(mount_parse("", &m, NULL), -EINVAL);
	cr_expect_eq(mount_parse("1 0 0:2 / / rw", &m, NULL), -EINVAL);
	cr_expect_eq(mount_parse("1 0 0:2 / / rw - tmpfs", &m, NULL), -EINVAL);
	cr_expect_eq(mount_parse("x y z - a b", &m, NULL), -EINVAL);
}

Test(mountinfo, of_our_own)
{
	struct mount_entry m = {0};
	uint64_t id;
	int fd = open("/proc", O_PATH | O_CLOEXEC);

	cr_assert_eq(mount_of(fd, &id, NULL), 0);
	cr_assert_eq(mount_find(getpid(), id, &m, NULL), 0);
	cr_expect_str_eq(m.point, "/proc");
	cr_expect_str_eq(m.type, "proc");
	mount_entry_done(&m);
	cr_expect_eq(mount_find(getpid(), UINT64_MAX, &m, NULL), -EIO);
	cr_expect_eq(mount_find_source(getpid(), "no-such-source", &m, NULL), -ENOENT);
	close(fd);
}

Test(root, reads_text_alone)
{
	char *text = NULL, *path = NULL;
	size_t n = 0;
	int fd = -1;

	cr_assert_eq(root_read(getpid(), "/../etc/passwd", 1 << 20, &text, &n, NULL), 0);
	cr_expect_eq(strlen(text), n);
	free(text);
	cr_expect_eq(root_read(getpid(), "/etc/passwd", 3, &text, &n, NULL), -EFBIG);
	cr_expect_eq(root_read(getpid(), "/dev/null", 10, &text, &n, NULL), -EINVAL);
	cr_expect_eq(root_read(getpid(), "/etc/no-such", 10, &text, &n, NULL), -ENOENT);
	cr_assert_eq(root_open(getpid(), "/etc/../etc/passwd", O_PATH, &fd, NULL), 0);
	cr_assert_eq(root_path_of(getpid(), fd, &path, NULL), 0);
	cr_expect_str_eq(path, "/etc/passwd");
	free(path);
	close(fd);
}

static bool is_root(void)
{
	return geteuid() == 0;
}

Test(file_overlay, refuses_our_own_namespace)
{
	int fd = open("/etc/passwd", O_PATH | O_CLOEXEC);

	cr_expect_eq(file_overlay_check(getpid(), fd, NULL), -EPERM);
	close(fd);
}

Test(file_overlay, tries_itself)
{
	if (!is_root())
		cr_skip_test("needs root");
	cr_expect_eq(file_overlay_try(NULL), 0);
	cr_expect_eq(file_overlay_verify("pgjolt-probe", 0, NULL), 0);
}

Test(file_overlay, a_mount_that_is_nowhere)
{
	static const struct overlay_file file = {
		.source = "pgjolt-unit-test", .text = "hello", .length = 5, .uid = 12, .gid = 34, .mode = 0640,
	};
	int mount_fd, watch_fd, fd;
	struct stat st;
	char path[64];
	dev_t dev;

	if (!is_root())
		cr_skip_test("needs root");
	cr_assert_eq(file_overlay_new(&file, &mount_fd, &watch_fd, &dev, NULL), 0);
	cr_assert_eq(fstat(mount_fd, &st), 0);
	cr_expect_eq(st.st_dev, dev);
	cr_expect_eq(st.st_size, 5);
	cr_expect_eq(st.st_uid, 12);
	cr_expect_eq(st.st_gid, 34);
	cr_expect_eq(st.st_mode, S_IFREG | 0640);
	cr_expect_eq(file_overlay_opened(watch_fd), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mount_fd);
	for (int i = 0; i < 3; i++) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		cr_assert_geq(fd, 0);
		close(fd);
	}
	cr_expect_eq(file_overlay_opened(watch_fd), 3);
	cr_expect_eq(file_overlay_verify("pgjolt-unit-test", 0, NULL), 0);
	cr_expect_eq(file_overlay_remove("pgjolt-unit-test", 0, NULL), 0, "nothing is there");
	close(mount_fd);
	close(watch_fd);
}
