#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include "core/durable.h"

static char folder[] = "/tmp/pgjolt-durable-XXXXXX";
static int dir = -1;

static void setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(dir, 0);
}

static void remove_all(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
			unlinkat(fd, e->d_name, 0) < 0)
			remove_all(fd, e->d_name);
	if (d)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

static void teardown(void)
{
	close(dir);
	remove_all(AT_FDCWD, folder);
}

static unsigned entries(int at)
{
	int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static void holds(int at, const char *name, const char *text)
{
	_cleanup_err_ struct err *e = NULL;
	_cleanup_free_ char *there = NULL;
	size_t n = 0;

	cr_assert_eq(file_read(at, name, 1 << 20, &there, &n, &e), 0, "%s", err_text(e));
	cr_assert_str_eq(there, text);
	cr_assert_eq(n, strlen(text));
}

TestSuite(durable, .init = setup, .fini = teardown);

Test(durable, writes_and_replaces)
{
	struct stat st;

	cr_assert_eq(durable_write(dir, "a", "one", 3, 0600, NULL), 0);
	holds(dir, "a", "one");
	cr_assert_eq(durable_write(dir, "a", "second", 6, 0600, NULL), 0);
	holds(dir, "a", "second");
	cr_assert_eq(durable_write(dir, "a", "", 0, 0600, NULL), 0);
	holds(dir, "a", "");
	cr_assert_eq(fstatat(dir, "a", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(entries(dir), 1);
}

Test(durable, path_names)
{
	_cleanup_free_ char *path = NULL;

	cr_assert_geq(asprintf(&path, "%s/x/y/z", folder), 0);
	cr_assert_eq(durable_write(AT_FDCWD, path, "q", 1, 0644, NULL), -ENOENT);
	path[strlen(path) - 2] = '\0';
	cr_assert_eq(folder_create(path, 0755, NULL), 0);
	path[strlen(path)] = '/';
	cr_assert_eq(durable_write(AT_FDCWD, path, "q", 1, 0644, NULL), 0);
	holds(AT_FDCWD, path, "q");
	holds(dir, "x/y/z", "q");
	cr_assert_eq(durable_remove(dir, "x/y/z", NULL), 0);
	cr_assert_eq(file_read(dir, "x/y/z", 10, &(char *){NULL}, NULL, NULL), -ENOENT);
}

Test(durable, a_crash_left_temporary_is_replaced)
{
	int fd = openat(dir, ".a.tmp", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_eq(write(fd, "half a rec", 10), 10);
	close(fd);
	cr_assert_eq(durable_write(dir, "a", "x", 1, 0600, NULL), 0);
	holds(dir, "a", "x");
	cr_assert_eq(entries(dir), 1);
}

Test(durable, a_planted_link_is_not_followed)
{
	cr_assert_eq(durable_write(dir, "victim", "keep", 4, 0600, NULL), 0);
	cr_assert_eq(symlinkat("victim", dir, ".a.tmp"), 0);
	cr_assert_eq(symlinkat("victim", dir, "a"), 0);
	cr_assert_eq(durable_write(dir, "a", "x", 1, 0600, NULL), 0);
	holds(dir, "victim", "keep");
	holds(dir, "a", "x");
}

Test(durable, failures_leave_nothing_and_say_the_step)
{
	_cleanup_err_ struct err *e = NULL;
	char name[300];

	cr_assert_eq(mkdirat(dir, "d", 0700), 0);
	cr_assert_eq(mkdirat(dir, "d/inside", 0700), 0);
	cr_assert_lt(durable_write(dir, "d", "x", 1, 0600, &e), 0);
	cr_assert(strstr(err_text(e), "rename"), "%s", err_text(e));
	cr_assert_eq(entries(dir), 1);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	cr_assert_eq(durable_write(dir, name, "x", 1, 0600, NULL), -ENAMETOOLONG);
	cr_assert_eq(durable_write(dir, "", "x", 1, 0600, NULL), -EINVAL);
	cr_assert_eq(durable_write(dir, "d/", "x", 1, 0600, NULL), -EINVAL);
	cr_assert_eq(durable_write(dir, "..", "x", 1, 0600, NULL), -EINVAL);
	cr_assert_eq(durable_write(-1, "a", "x", 1, 0600, NULL), -EBADF);
	cr_assert_eq(entries(dir), 1);
}

Test(durable, remove)
{
	_cleanup_err_ struct err *e = NULL;

	cr_assert_eq(durable_write(dir, "a", "x", 1, 0600, NULL), 0);
	cr_assert_eq(durable_remove(dir, "a", NULL), 0);
	cr_assert_eq(durable_remove(dir, "a", NULL), 0);
	cr_assert_eq(durable_remove(dir, "no/such/folder/a", NULL), 0);
	cr_assert_eq(entries(dir), 0);
	cr_assert_eq(mkdirat(dir, "d", 0700), 0);
	cr_assert_lt(durable_remove(dir, "d", &e), 0);
	cr_assert_not_null(e);
}

Test(durable, read_is_bounded)
{
	_cleanup_free_ char *big = malloc(100000), *text = NULL, *untouched = NULL;
	_cleanup_err_ struct err *e = NULL;
	size_t n = 77;

	memset(big, 'x', 100000);
	cr_assert_eq(durable_write(dir, "big", big, 100000, 0600, NULL), 0);
	cr_assert_eq(file_read(dir, "big", 99999, &untouched, &n, &e), -EFBIG);
	cr_assert_null(untouched);
	cr_assert_eq(n, 77);
	cr_assert(strstr(err_text(e), "99999"));
	cr_assert_eq(file_read(dir, "big", 100000, &text, &n, NULL), 0);
	cr_assert_eq(n, 100000);
	cr_assert_eq(memcmp(text, big, n), 0);
	cr_assert_eq(text[n], '\0');
	cr_assert_eq(file_read(dir, "big", 0, &untouched, NULL, NULL), -EFBIG);
	cr_assert_eq(file_read(dir, "big", SIZE_MAX, &untouched, NULL, NULL), -EINVAL);
	/* A file without an end is cut off too. */
	cr_assert_neq(file_read(AT_FDCWD, "/proc/self/maps", 10, &untouched, NULL, NULL), 0);
}

Test(durable, read_takes_regular_files_only, .timeout = 20)
{
	_cleanup_free_ char *text = NULL;

	cr_assert_eq(mkfifoat(dir, "fifo", 0600), 0);
	cr_assert_eq(file_read(dir, "fifo", 10, &text, NULL, NULL), -EINVAL);
	cr_assert_eq(file_read(dir, ".", 10, &text, NULL, NULL), -EISDIR);
	cr_assert_eq(file_read(AT_FDCWD, "/dev/zero", 10, &text, NULL, NULL), -EINVAL);
	cr_assert_null(text);
}

Test(durable, folders)
{
	_cleanup_free_ char *path = NULL, *file = NULL;
	_cleanup_err_ struct err *e = NULL;
	struct stat st;

	cr_assert_geq(asprintf(&path, "%s/p/q//r/", folder), 0);
	cr_assert_eq(folder_create(path, 0700, &e), 0, "%s", err_text(e));
	cr_assert_eq(folder_create(path, 0700, NULL), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert(S_ISDIR(st.st_mode));
	cr_assert_eq(st.st_mode & 0777, 0700);
	cr_assert_eq(durable_write(dir, "f", "", 0, 0600, NULL), 0);
	cr_assert_geq(asprintf(&file, "%s/f", folder), 0);
	cr_assert_eq(folder_create(file, 0700, &e), -ENOTDIR);
	cr_assert_eq(folder_create("", 0700, NULL), -EINVAL);
	cr_assert_eq(folder_create("/", 0700, NULL), 0);
}

/* A full file system: the old content stays, nothing is left over, and the words name the step. */
Test(durable, full_disk)
{
	_cleanup_free_ char *big = calloc(1, 1 << 20);
	_cleanup_err_ struct err *e = NULL;
	_cleanup_close_ int small = -1;

	/* A mount namespace of this test's own, so that nothing can be left behind. */
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		cr_skip_test("needs root for a small tmpfs");
	cr_assert_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	cr_assert_eq(mkdirat(dir, "small", 0700), 0);
	/* By path: dir is of the old mount namespace. */
	cr_assert_eq(chdir(folder), 0);
	if (mount("pgjolt-test", "small", "tmpfs", 0, "size=64k,nr_inodes=4") < 0)
		cr_skip_test("no tmpfs here: %s", strerror(errno));
	small = open("small", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(durable_write(small, "a", "old", 3, 0600, NULL), 0);
	cr_assert_eq(durable_write(small, "a", big, 1 << 20, 0600, &e), -ENOSPC);
	cr_assert(strstr(err_text(e), "write"), "%s", err_text(e));
	holds(small, "a", "old");
	cr_assert_eq(entries(small), 1);
	/* The space is back: what fits is written. */
	cr_assert_eq(durable_write(small, "a", "new", 3, 0600, NULL), 0);
	holds(small, "a", "new");
	/* No inode left for the temporary file. */
	cr_assert_eq(mkdirat(small, "x", 0700), 0);
	cr_assert_eq(mkdirat(small, "y", 0700), 0);
	cr_assert_eq(durable_write(small, "a", "no", 2, 0600, &e), -ENOSPC);
	holds(small, "a", "new");
	cr_assert_eq(durable_remove(small, "a", NULL), 0);
	cr_assert_eq(umount2("small", MNT_DETACH), 0);
}
