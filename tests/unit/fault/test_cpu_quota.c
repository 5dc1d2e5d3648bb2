#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "core/cleanup.h"
#include "fault/cpu_quota.h"

#define PERIOD 100000
#define PERCENT 10000ULL

static void chosen(uint64_t now, uint64_t percent, uint64_t processors, uint64_t wanted)
{
	struct cpu_quota q = {now, PERIOD, percent * PERCENT, processors, "/g", false};
	_cleanup_err_ struct err *err = NULL;
	uint64_t us = 0;

	cr_assert_eq(cpu_quota_choose(&q, &us, &err), 0, "%s", err_text(err));
	cr_expect_eq(us, wanted);
}

static void refused(uint64_t now, uint64_t percent, uint64_t processors, const char *words)
{
	struct cpu_quota q = {now, PERIOD, percent * PERCENT, processors, "/g", false};
	_cleanup_err_ struct err *err = NULL;
	uint64_t us = 7;

	cr_assert_eq(cpu_quota_choose(&q, &us, &err), -EINVAL);
	cr_expect(strstr(err_text(err), words), "%s", err_text(err));
	cr_expect_eq(us, 7);
}

Test(cpu_quota, of_one_processor_and_of_several)
{
	chosen(UINT64_MAX, 5, 1, 5000);
	chosen(UINT64_MAX, 150, 2, 150000);
	chosen(UINT64_MAX, 9900, 100, 9900000);
	chosen(400000, 399, 8, 399000);
}

Test(cpu_quota, what_would_loosen_a_limit_is_refused)
{
	refused(150000, 151, 8, "150000 us of 100000 us already");
	refused(150000, 150, 8, "as strict or stricter");
}

Test(cpu_quota, what_would_limit_nothing_is_refused)
{
	refused(UINT64_MAX, 200, 2, "200% would limit nothing: this node has 2 processors");
	refused(UINT64_MAX, 10000, 8, "less than 800%");
	refused(UINT64_MAX, 100, 1, "1 processor (");
}

Test(cpu_quota, less_than_the_kernel_takes)
{
	struct cpu_quota q = {UINT64_MAX, 50000, PERCENT, 2, "/g", false};
	uint64_t us;

	cr_expect_eq(cpu_quota_choose(&q, &us, NULL), -EINVAL);
}

Test(cpu_quota, the_processors_of_a_cpuset)
{
	struct cpu_quota q = {UINT64_MAX, PERIOD, 200 * PERCENT, 2, "/g", true};
	_cleanup_err_ struct err *err = NULL;
	uint64_t us;

	cr_expect_eq(cpu_quota_choose(&q, &us, &err), -EINVAL);
	cr_expect(strstr(err_text(err), "the instance's cpuset has 2 processors"), "%s", err_text(err));
}

Test(cpu_quota, lists_of_processors)
{
	static const char *const bad[] = {"", "\n", "-1", "a", "0-", "3-1", "0,", "0 1", "0-99999999", "0,,1"};

	cr_expect_eq(cpu_list_count("0"), 1);
	cr_expect_eq(cpu_list_count("0-3,8,10-11\n"), 7);
	for (size_t i = 0; i < ELEMENTS(bad); i++)
		cr_expect_eq(cpu_list_count(bad[i]), 0, "%s", bad[i]);
}

/* A hierarchy: root/pod/container. */
struct tree {
	char root[32], pod[64], container[96];
};

static void put(const char *folder, const char *name, const char *text)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	cr_assert(f);
	fputs(text, f);
	fclose(f);
}

static void make_tree(struct tree *t)
{
	strcpy(t->root, "/tmp/pgjolt-quota-XXXXXX");
	cr_assert(mkdtemp(t->root));
	snprintf(t->pod, sizeof(t->pod), "%s/pod", t->root);
	snprintf(t->container, sizeof(t->container), "%s/container", t->pod);
	cr_assert(mkdir(t->pod, 0700) == 0 && mkdir(t->container, 0700) == 0);
}

static void remove_tree(const struct tree *t)
{
	static const char *const names[] = {"cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us",
		"cpuset.cpus.effective", "cpuset.effective_cpus"};
	const char *const folders[] = {t->container, t->pod, t->root};
	char path[160];

	for (size_t i = 0; i < ELEMENTS(folders); i++) {
		for (size_t k = 0; k < ELEMENTS(names); k++) {
			snprintf(path, sizeof(path), "%s/%s", folders[i], names[k]);
			remove(path);
		}
		cr_expect_eq(remove(folders[i]), 0, "%s", folders[i]);
	}
}

static void limit_is(const struct tree *t, bool v2, uint64_t quota, const char *folder)
{
	_cleanup_err_ struct err *err = NULL;
	struct cpu_limit l = {0};

	cr_assert_eq(cpu_limit_find(t->container, strlen(t->root), v2, &l, &err), 0, "%s", err_text(err));
	cr_expect_eq(l.quota_us, quota, "%llu", (unsigned long long)l.quota_us);
	cr_expect_eq(l.period_us, PERIOD);
	cr_expect_str_eq(l.folder, folder);
	free(l.folder);
}

Test(cpu_quota, the_strictest_limit_of_a_group_and_those_above)
{
	struct cpu_limit l;
	struct tree t;

	make_tree(&t);
	cr_expect_lt(cpu_limit_find(t.container, strlen(t.root), true, &l, NULL), 0, "no file");
	put(t.container, "cpu.max", "max 100000\n");
	limit_is(&t, true, UINT64_MAX, t.container);
	put(t.pod, "cpu.max", "25000 50000\n");
	limit_is(&t, true, 50000, t.pod);
	put(t.container, "cpu.max", "40000 100000\n");
	limit_is(&t, true, 40000, t.container);
	put(t.root, "cpu.max", "10000 100000\n");
	limit_is(&t, true, 10000, t.root);
	put(t.container, "cpu.max", "nonsense\n");
	cr_expect_eq(cpu_limit_find(t.container, strlen(t.root), true, &l, NULL), -EIO);
	put(t.container, "cpu.cfs_quota_us", "-1\n");
	put(t.container, "cpu.cfs_period_us", "100000\n");
	put(t.pod, "cpu.cfs_quota_us", "150000\n");
	put(t.pod, "cpu.cfs_period_us", "100000\n");
	limit_is(&t, false, 150000, t.pod);
	remove_tree(&t);
}

Test(cpu_quota, the_nearest_cpuset)
{
	struct tree t;

	make_tree(&t);
	cr_expect_eq(cpu_set_count(t.container, strlen(t.root), true), 0);
	put(t.root, "cpuset.cpus.effective", "0-7\n");
	cr_expect_eq(cpu_set_count(t.container, strlen(t.root), true), 8);
	put(t.pod, "cpuset.cpus.effective", "0-1\n");
	cr_expect_eq(cpu_set_count(t.container, strlen(t.root), true), 2);
	put(t.container, "cpuset.effective_cpus", "5\n");
	cr_expect_eq(cpu_set_count(t.container, strlen(t.root), false), 1);
	remove_tree(&t);
}
