#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "instance/instance.h"

/* A program named postgres in a folder that looks like a data directory: as far as /proc can tell. */
struct fake {
	char folder[64];
	pid_t pid;
};

static void copy_program(const char *to)
{
	_cleanup_close_ int in = open("/bin/sleep", O_RDONLY | O_CLOEXEC);
	_cleanup_close_ int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	struct stat st;

	cr_assert(in >= 0 && out >= 0 && fstat(in, &st) == 0);
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);

		cr_assert_gt(n, 0);
		left -= n;
	}
}

static char *in_folder(const struct fake *f, const char *name)
{
	char *path;

	cr_assert_gt(asprintf(&path, "%s/%s", f->folder, name), 0);
	return path;
}

static void put(const struct fake *f, const char *name, const char *text)
{
	_cleanup_free_ char *path = in_folder(f, name);
	FILE *file = fopen(path, "w");

	cr_assert_not_null(file, "%s", path);
	fputs(text, file);
	fclose(file);
}

static void fake_start(struct fake *f, const char *program)
{
	_cleanup_free_ char *path = NULL, *wal = NULL;
	int up[2];
	char c;

	strcpy(f->folder, "/tmp/pj-procs-fake-XXXXXX");
	cr_assert_not_null(mkdtemp(f->folder));
	path = in_folder(f, program);
	wal = in_folder(f, "pg_wal");
	copy_program(path);
	cr_assert_eq(mkdir(wal, 0700), 0);
	put(f, "PG_VERSION", "15\n");
	cr_assert_eq(pipe2(up, O_CLOEXEC), 0);
	f->pid = fork();
	if (f->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (chdir(f->folder) == 0)
			execl(path, program, "1000", NULL);
		_exit(1);
	}
	close(up[1]);
	/* Closed by the exec. */
	cr_assert_eq(read(up[0], &c, 1), 0);
	close(up[0]);
}

static void fake_end(struct fake *f)
{
	static const char *const names[] = {"postgres", "postmaster", "other", "PG_VERSION",
		"postmaster.pid"};

	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	for (size_t i = 0; i < ELEMENTS(names); i++) {
		_cleanup_free_ char *path = in_folder(f, names[i]);

		unlink(path);
	}
	_cleanup_free_ char *wal = in_folder(f, "pg_wal");
	rmdir(wal);
	rmdir(f->folder);
}

static void put_lock(const struct fake *f, pid_t pid, const char *rest)
{
	_cleanup_free_ char *text = NULL;

	cr_assert_gt(asprintf(&text, "%d\n%s", pid, rest), 0);
	put(f, "postmaster.pid", text);
}

/* The instance with that pid, or NULL. */
static struct instance_info *seen(pid_t pid)
{
	struct instance_info **list = NULL, *copy = NULL;
	size_t n = 0;

	cr_assert_eq(instance_scan("node1", &list, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		if (list[i]->pid == pid)
			copy = instance_info_copy(list[i]);
	instance_list_free(list, n);
	return copy;
}

Test(instance, everything_that_files_tell)
{
	_cleanup_(instance_info_freep) struct instance_info *i = NULL, *found = NULL, *none = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *wal = NULL;
	struct fake f;

	fake_start(&f, "postgres");
	put_lock(&f, f.pid, "/elsewhere\n1700000000\n54329\n/run/odd\x01\n127.0.0.7\n");
	i = seen(f.pid);
	cr_assert_not_null(i);
	wal = in_folder(&f, "pg_wal");
	cr_expect_str_eq(i->name, "postgres/54329");
	cr_expect_str_eq(i->cluster, "postgres");
	cr_expect_str_eq(i->member, "54329");
	cr_expect_str_eq(i->node, "node1");
	cr_expect_eq(i->role, ROLE_UNKNOWN);
	cr_expect_str_eq(i->pgdata, f.folder);
	cr_expect_str_eq(i->waldir, wal);
	cr_expect_eq(i->port, 54329);
	cr_expect_str_eq(i->socket_dir, "/run/odd?");
	cr_expect_str_eq(i->version, "15");
	cr_expect(i->host_network);
	cr_expect_str_eq(i->addresses[0], "127.0.0.7");
	cr_expect(instance_is_alive(i));
	cr_expect_eq(instance_find("node1", "postgres/54329", &found, NULL), 0);
	cr_expect_eq(instance_find("node1", "no/such", &none, &err), -ENOENT);
	cr_expect(strstr(err_text(err), "postgres/54329"), "%s", err_text(err));
	fake_end(&f);
	cr_expect_not(instance_is_alive(i));
}

Test(instance, a_linked_wal_folder_is_resolved)
{
	_cleanup_(instance_info_freep) struct instance_info *i = NULL;
	_cleanup_free_ char *wal = NULL;
	struct fake f;

	fake_start(&f, "postmaster");
	wal = in_folder(&f, "pg_wal");
	cr_assert_eq(rmdir(wal), 0);
	cr_assert_eq(symlink("/usr/lib", wal), 0);
	put_lock(&f, f.pid, "/x\n1\n54330\n\n\n");
	i = seen(f.pid);
	cr_assert_not_null(i);
	cr_expect_str_eq(i->waldir, "/usr/lib");
	cr_expect_null(i->socket_dir);
	cr_expect_str_eq(i->addresses[0], "127.0.0.1");
	unlink(wal);
	fake_end(&f);
}

Test(instance, two_of_a_name_are_told_apart)
{
	_cleanup_(instance_info_freep) struct instance_info *a = NULL, *b = NULL;
	char name[64];
	struct fake f, g;

	fake_start(&f, "postgres");
	fake_start(&g, "postgres");
	put_lock(&f, f.pid, "/x\n1\n54331\n\n\n");
	put_lock(&g, g.pid, "/x\n1\n54331\n\n\n");
	a = seen(f.pid);
	b = seen(g.pid);
	cr_assert(a && b);
	snprintf(name, sizeof(name), "postgres/54331~%d", f.pid);
	cr_expect_str_eq(a->name, name);
	cr_expect_str_neq(a->name, b->name);
	fake_end(&f);
	fake_end(&g);
}

static void expect_unseen(const struct fake *f, const char *why)
{
	_cleanup_(instance_info_freep) struct instance_info *i = seen(f->pid);

	cr_expect_null(i, "%s", why);
}

Test(instance, impostors_are_not_listed)
{
	_cleanup_free_ char *lock = NULL, *version = NULL;
	struct fake f;

	fake_start(&f, "postgres");
	lock = in_folder(&f, "postmaster.pid");
	version = in_folder(&f, "PG_VERSION");
	expect_unseen(&f, "no lock file");
	put(&f, "postmaster.pid", "");
	expect_unseen(&f, "an empty one");
	put_lock(&f, f.pid + 1, "/x\n1\n5432\n\n\n");
	expect_unseen(&f, "another's pid");
	put_lock(&f, -f.pid, "/x\n1\n5432\n\n\n");
	expect_unseen(&f, "a single-user server");
	unlink(lock);
	cr_assert_eq(mkfifo(lock, 0600), 0);
	expect_unseen(&f, "a pipe: nobody waits on it");
	unlink(lock);
	cr_assert_eq(symlink("/dev/zero", lock), 0);
	expect_unseen(&f, "a link");
	unlink(lock);
	cr_assert_eq(mkdir(lock, 0700), 0);
	expect_unseen(&f, "a folder");
	rmdir(lock);
	put_lock(&f, f.pid, "/x\n1\n5432\n\n\n");
	unlink(version);
	expect_unseen(&f, "no version");
	put(&f, "PG_VERSION", "\xff\xfe");
	expect_unseen(&f, "nonsense for a version");
	fake_end(&f);
	fake_start(&f, "other");
	put_lock(&f, f.pid, "/x\n1\n5432\n\n\n");
	expect_unseen(&f, "another program");
	fake_end(&f);
}
