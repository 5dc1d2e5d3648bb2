#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "fault/disk_match.h"

static char base[64];

static void make(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	cr_assert_eq(mkdir(path, 0700), 0, "%s", path);
}

static void make_link(const char *name, const char *target)
{
	char from[PATH_MAX], to[PATH_MAX];

	snprintf(from, sizeof(from), "%s/%s", base, name);
	snprintf(to, sizeof(to), "%s%s%s", *target == '.' ? "" : base, *target == '.' ? "" : "/", target);
	cr_assert_eq(symlink(to, from), 0, "%s", from);
}

/* A process in a data directory whose WAL and one tablespace lie elsewhere. */
static pid_t stand_in(void)
{
	pid_t pid;

	snprintf(base, sizeof(base), "/tmp/pj-gates-match-%d", getpid());
	cr_assert_eq(mkdir(base, 0700), 0);
	make("data");
	make("data/base");
	make("data/pg_tblspc");
	make("wal");
	make("space");
	make_link("data/pg_wal", "wal");
	make_link("data/pg_tblspc/16400", "../../space");
	make_link("data/pg_tblspc/16401", "nowhere");
	pid = fork();
	if (pid == 0) {
		char path[PATH_MAX];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(path, sizeof(path), "%s/data", base);
		if (chdir(path) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	for (int i = 0; i < 2000; i++) {
		_cleanup_free_ char *cwd = NULL;

		if (proc_read_link(pid, "cwd", &cwd, NULL) == 0 && strstr(cwd, "match"))
			break;
		usleep(1000);
	}
	return pid;
}

static void stand_in_end(pid_t pid)
{
	static const char *const names[] = {"data/pg_wal", "data/pg_tblspc/16400", "data/pg_tblspc/16401",
		"data/pg_tblspc", "data/base", "data", "wal", "space", ""};

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (size_t i = 0; i < ELEMENTS(names); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", base, names[i]);
		cr_expect_eq(remove(path), 0, "%s", path);
	}
}

static void expect_class(const struct disk_areas *a, const char *rest, int wanted, const char *name)
{
	char path[PATH_MAX], got[PATH_MAX];
	enum disk_class c = DISK_CLASS_MAX;
	bool found;

	snprintf(path, sizeof(path), "%s/%s", base, rest);
	found = disk_areas_classify(a, path, &c, got);
	cr_expect_eq(found, wanted >= 0, "%s", path);
	if (found && wanted >= 0) {
		cr_expect_eq(c, (enum disk_class)wanted, "%s: class %d", path, (int)c);
		cr_expect_str_eq(got, name);
	}
}

Test(disk_match, classes_of_files)
{
	_cleanup_err_ struct err *e = NULL;
	int mounts[DISK_AREAS_MAX];
	struct disk_areas a;
	struct proc_id id;
	pid_t pid = stand_in();

	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	cr_assert_eq(disk_areas_open(&id, &a, &e), 0, "%s", err_text(e));
	cr_expect_eq(a.count, 3, "the dangling link is none");
	cr_expect_eq(disk_areas_mounts(&a, mounts), 1);
	expect_class(&a, "data/base/5/1259", DISK_DATA, "base/5/1259");
	expect_class(&a, "data/PG_VERSION", DISK_DATA, "PG_VERSION");
	expect_class(&a, "data/base/pgsql_tmp/pgsql_tmp77.0", DISK_TEMP,
		"base/pgsql_tmp/pgsql_tmp77.0");
	expect_class(&a, "data/base/5/t3_16500", DISK_TEMP, "base/5/t3_16500");
	expect_class(&a, "data/base/5/table_x", DISK_DATA, "base/5/table_x");
	expect_class(&a, "wal/000000010000000000000001", DISK_WAL, "pg_wal/000000010000000000000001");
	expect_class(&a, "wal/archive_status/x.ready", DISK_WAL, "pg_wal/archive_status/x.ready");
	expect_class(&a, "space/PG_15/5/16800", DISK_TABLESPACE, "pg_tblspc/16400/PG_15/5/16800");
	expect_class(&a, "space/PG_15/pgsql_tmp/pgsql_tmp1.0", DISK_TEMP,
		"pg_tblspc/16400/PG_15/pgsql_tmp/pgsql_tmp1.0");
	expect_class(&a, "database", -1, NULL);
	expect_class(&a, "other", -1, NULL);
	disk_areas_done(&a);
	stand_in_end(pid);
	cr_expect_eq(disk_areas_open(&id, &a, NULL), -ESTALE);
}

static void expect_match(const struct disk_match *m, const char *rest, bool wanted)
{
	char path[PATH_MAX];
	enum disk_class c;

	snprintf(path, sizeof(path), "%s/%s", base, rest);
	cr_expect_eq(disk_match_path(m, path, &c), wanted, "%s", path);
}

Test(disk_match, paths_and_processes)
{
	struct disk_filter *filter = calloc(1, sizeof(*filter));
	_cleanup_json_ cJSON *json = cJSON_Parse(
		"{\"delay\":\"1ms\",\"paths\":[\"wal\",\"base/1*/2*\"]}");
	_cleanup_(params_freep) struct params *p = NULL;
	struct instance_info instance = {.name = "a/b"};
	_cleanup_err_ struct err *e = NULL;
	struct disk_match m = {0};
	pid_t pid = stand_in();
	struct proc_id id;

	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	instance.pid = id.pid;
	instance.start_ticks = id.start_ticks;
	cr_assert_eq(params_from_json(&fault_disk_latency, json, &p, &e), 0, "%s", err_text(e));
	cr_assert_eq(disk_match_init(&m, &instance, p, &e), 0, "%s", err_text(e));
	expect_match(&m, "wal/0001", true);
	expect_match(&m, "data/base/16384/2619", true);
	expect_match(&m, "data/base/16384/1259", false);
	expect_match(&m, "space/PG_15/5/2", false);
	filter->match = &m;
	cr_expect(disk_filter_process(filter, pid));
	cr_expect(disk_filter_process(filter, pid), "from memory");
	cr_expect_not(disk_filter_process(filter, getpid()));
	cr_expect_not(disk_filter_process(filter, 1));
	disk_match_done(&m);
	free(filter);
	stand_in_end(pid);
}

/* Links as a pod may make them, seen by an agent whose own root has what they name. */
static void expect_in_root(const char *wal, const char *wanted)
{
	char link[PATH_MAX], path[PATH_MAX];
	_cleanup_err_ struct err *e = NULL;
	struct disk_areas a;
	struct proc_id id;
	pid_t pid;
	int r;

	snprintf(link, sizeof(link), "%s/data/pg_wal", base);
	cr_assert_eq(symlink(wal, link), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (chroot(base) < 0 || chdir("/data") < 0)
			_exit(1);
		for (;;)
			pause();
	}
	for (int i = 0; i < 5000; i++) {
		_cleanup_free_ char *cwd = NULL;

		if (proc_read_link(pid, "cwd", &cwd, NULL) == 0 && strstr(cwd, "/data"))
			break;
		usleep(1000);
	}
	cr_assert_eq(proc_identify(pid, &id, NULL), 0);
	r = disk_areas_open(&id, &a, &e);
	if (wanted) {
		snprintf(path, sizeof(path), "%s/%s", base, wanted);
		cr_assert_eq(r, 0, "%s: %s", wal, err_text(e));
		cr_expect_str_eq(a.list[1].path, path, "%s", wal);
		disk_areas_done(&a);
	} else {
		cr_expect_lt(r, 0, "%s", wal);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(unlink(link), 0);
}

Test(disk_match, no_link_leads_out_of_the_root)
{
	static const char *const names[] = {"data/pg_tblspc/16400", "data/pg_tblspc", "data", "hop", "etc",
		"wal", "deep/fifo", "deep", ""};
	char path[PATH_MAX];

	if (geteuid() != 0)
		cr_skip_test("needs root");
	snprintf(base, sizeof(base), "/tmp/pj-gates-root-%d", getpid());
	cr_assert_eq(mkdir(base, 0700), 0);
	make("data");
	make("data/pg_tblspc");
	make("etc");
	make("wal");
	make("deep");
	snprintf(path, sizeof(path), "%s/hop", base);
	cr_assert_eq(symlink("/etc", path), 0);
	snprintf(path, sizeof(path), "%s/data/pg_tblspc/16400", base);
	cr_assert_eq(symlink("../../../../../../../../usr", path), 0);
	snprintf(path, sizeof(path), "%s/deep/fifo", base);
	cr_assert_eq(mkfifo(path, 0600), 0);
	expect_in_root("/wal", "wal");
	expect_in_root("../wal", "wal");
	expect_in_root("../hop", "etc");
	expect_in_root("../../../../../../../../../../../etc", "etc");
	expect_in_root("../../../../../../../../../../../usr", NULL);
	expect_in_root("/deep/fifo", NULL);
	expect_in_root("/proc/self/root/etc", NULL);
	for (size_t i = 0; i < ELEMENTS(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", base, names[i]);
		cr_expect_eq(remove(path), 0, "%s", path);
	}
}
