#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>
#include "core/clock.h"
#include "hold/space.h"
#include "kernel/volume.h"

#define MIB (1UL << 20)
#define WAIT (10 * NS_PER_S)

/* 16 MiB of memory as a file system that only this test sees; -1 without the right to. */
static int small_volume(void)
{
	char folder[] = "/tmp/pj-space-XXXXXX";
	int fd;

	cr_assert_not_null(mkdtemp(folder));
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", folder, "tmpfs", 0, "size=16m") < 0) {
		rmdir(folder);
		return -1;
	}
	fd = open(folder, O_RDONLY | O_DIRECTORY);
	cr_assert_geq(fd, 0);
	cr_assert_eq(umount2(folder, MNT_DETACH), 0);
	cr_assert_eq(rmdir(folder), 0);
	return fd;
}

static uint64_t free_bytes(int fd)
{
	struct volume_space s;

	cr_assert_eq(volume_space(fd, &s, NULL), 0);
	return s.free_bytes;
}

static bool comes_to(int fd, uint64_t low, uint64_t high)
{
	for (int i = 0; i < 1000; i++) {
		uint64_t now = free_bytes(fd);

		if (now >= low && now <= high)
			return true;
		usleep(5000);
	}
	return false;
}

Test(space, is_taken_when_told_and_again_and_given_back, .timeout = 30)
{
	int fd = small_volume(), other;
	struct space_state state;
	struct space *s;

	if (fd < 0)
		cr_skip_test("needs root");
	other = openat(fd, "other", O_CREAT | O_RDWR, 0600);
	cr_assert_eq(ftruncate(other, 0), 0);
	cr_assert_eq(fallocate(other, 0, 0, 4 * MIB), 0);
	cr_assert_eq(space_new(openat(fd, ".", O_TMPFILE | O_RDWR, 0600), &s, NULL), 0);
	usleep(30000);
	cr_expect_eq(free_bytes(fd), 12 * MIB);
	space_take(s, 2 * MIB, WAIT);
	space_state(s, &state);
	cr_expect(state.full);
	cr_expect_eq(state.taken_bytes, 10 * MIB);
	cr_expect_eq(state.free_bytes, 2 * MIB);
	cr_expect_eq(state.error, 0);
	cr_expect_not(state.written);
	cr_expect_eq(free_bytes(fd), 2 * MIB);
	cr_assert_eq(ftruncate(other, 0), 0);
	cr_expect(comes_to(fd, 2 * MIB, 2 * MIB), "what others give back is taken too");
	space_free(s);
	cr_expect_eq(free_bytes(fd), 16 * MIB);
	close(other);
	close(fd);
}

Test(space, nothing_is_left_with_zero, .timeout = 30)
{
	struct space_state state;
	int fd = small_volume();
	struct space *s;

	if (fd < 0)
		cr_skip_test("needs root");
	cr_assert_eq(space_new(openat(fd, ".", O_TMPFILE | O_RDWR, 0600), &s, NULL), 0);
	space_take(s, 0, WAIT);
	space_state(s, &state);
	cr_expect(state.full);
	cr_expect_leq(free_bytes(fd), 4096);
	space_free(s);
	cr_expect_eq(free_bytes(fd), 16 * MIB);
	close(fd);
}

Test(space, a_file_that_cannot_grow_is_told, .timeout = 30)
{
	struct space_state state;
	int fd = small_volume();
	struct space *s;

	if (fd < 0)
		cr_skip_test("needs root");
	close(openat(fd, "readonly", O_CREAT | O_RDWR, 0600));
	cr_assert_eq(space_new(openat(fd, "readonly", O_RDONLY), &s, NULL), 0);
	space_take(s, 0, WAIT);
	space_state(s, &state);
	cr_expect_eq(state.error, EBADF);
	cr_expect_not(state.full);
	cr_expect_eq(state.taken_bytes, 0);
	space_free(s);
	close(fd);
}
