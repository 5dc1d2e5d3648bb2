#include "fault/cpu_quota.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/units.h"
#include "fault/group_setting.h"

#define QUOTA_MIN_US 1000ULL	/* the kernel's own least */
#define ONE_PPM	     1000000ULL
#define FOLDERS_MAX  32
#define CPUS_MAX     65536

/* What a period has, and how long it is: v2 "QUOTA PERIOD" with "max" for none. */
static int read_limit(const char *folder, bool v2, uint64_t *ret_quota, uint64_t *ret_period,
	struct err **err)
{
	_cleanup_free_ char *quota = NULL, *period = NULL;
	uint64_t length = 0;
	char word[24];
	int r;

	r = group_setting_read(folder, v2 ? "cpu.max" : "cpu.cfs_quota_us", NULL, NULL, &quota, err);
	if (r >= 0 && !v2)
		r = group_setting_read(folder, "cpu.cfs_period_us", NULL, NULL, &period, err);
	if (r < 0)
		return r;
	if ((v2 ? sscanf(quota, "%23s %" SCNu64, word, &length) != 2 :
		  sscanf(quota, "%23s", word) != 1 || sscanf(period, "%" SCNu64, &length) != 1) || length == 0)
		return err_set(err, EIO, "%s: a CPU limit that cannot be understood: \"%s\"", folder, quota);
	*ret_quota = strcmp(word, "max") == 0 || word[0] == '-' ? UINT64_MAX : strtoull(word, NULL, 10);
	*ret_period = length;
	return 0;
}

static bool go_up(char *folder, size_t root)
{
	char *slash = strrchr(folder, '/');

	if (!slash || (size_t)(slash - folder) < root || slash == folder)
		return false;
	*slash = '\0';
	return true;
}

/* In units of another period, rounded up: it must not look stricter than it is. */
static uint64_t scale(uint64_t quota, uint64_t from, uint64_t to)
{
	unsigned __int128 n;

	if (quota == UINT64_MAX)
		return quota;
	n = ((unsigned __int128)quota * to + from - 1) / from;
	return n >= UINT64_MAX ? UINT64_MAX : (uint64_t)n;
}

int cpu_limit_find(const char *folder, size_t root, bool v2, struct cpu_limit *ret, struct err **err)
{
	_cleanup_free_ char *at = strdup(folder), *least = strdup(folder);
	uint64_t now, period, above, its_period;
	int r;

	if (!at || !least)
		return err_errno(err, ENOMEM, "find the CPU limit");
	r = read_limit(folder, v2, &now, &period, err);
	if (r < 0)
		return r;
	for (int i = 0; i < FOLDERS_MAX && go_up(at, root); i++) {
		if (read_limit(at, v2, &above, &its_period, NULL) < 0)
			continue;
		above = scale(above, its_period, period);
		if (above < now) {
			now = above;
			strcpy(least, at);	/* a shorter one */
		}
	}
	*ret = (struct cpu_limit){now, period, steal_ptr(least)};
	return 0;
}

uint64_t cpu_list_count(const char *text)
{
	uint64_t n = 0;

	for (;;) {
		unsigned long first, last;
		char *end;

		if (*text < '0' || *text > '9')
			return 0;
		first = last = strtoul(text, &end, 10);
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			last = strtoul(end + 1, &end, 10);
		if (last < first || last >= CPUS_MAX)
			return 0;
		n += last - first + 1;
		if (*end == '\0' || *end == '\n')
			return n;
		if (*end != ',')
			return 0;
		text = end + 1;
	}
}

uint64_t cpu_set_count(const char *folder, size_t root, bool v2)
{
	_cleanup_free_ char *at = strdup(folder);

	if (!at)
		return 0;
	for (int i = 0; i < FOLDERS_MAX; i++) {
		_cleanup_free_ char *text = NULL;

		if (group_setting_read(at, v2 ? "cpuset.cpus.effective" : "cpuset.effective_cpus", NULL, NULL,
			    &text, NULL) >= 0)
			return cpu_list_count(text);
		if (!go_up(at, root))
			break;
	}
	return 0;
}

int cpu_quota_choose(const struct cpu_quota *q, uint64_t *ret_us, struct err **err)
{
	uint64_t us = (uint64_t)((unsigned __int128)q->period_us * q->ppm / ONE_PPM);
	char asked[UNITS_TEXT_MAX];

	if (us < QUOTA_MIN_US)
		return err_set(err, EINVAL,
			"quota: that is %" PRIu64 " us of a period of %" PRIu64 " us, and the kernel's least is %llu us",
			us, q->period_us, QUOTA_MIN_US);
	if (q->now_us <= us)
		return err_set(err, EINVAL,
			"quota: %s has a limit of %" PRIu64 " us of %" PRIu64 " us already, which is as strict or stricter",
			q->group, q->now_us, q->period_us);
	if (q->ppm >= q->processors * ONE_PPM)
		return err_set(err, EINVAL,
			"quota: %s would limit nothing: %s has %" PRIu64 " processor%s (allowed: less than "
			"%" PRIu64 "%%)", percent_format((uint32_t)q->ppm, asked),
			q->cpuset ? "the instance's cpuset" : "this node", q->processors,
			q->processors == 1 ? "" : "s", q->processors * 100);
	*ret_us = us;
	return 0;
}
