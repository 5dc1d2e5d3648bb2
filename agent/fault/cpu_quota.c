#include "fault/cpu_quota.h"

#include <errno.h>
#include <inttypes.h>
#include "core/units.h"

#define QUOTA_MIN_US 1000ULL	/* the kernel's own least */
#define ONE_PPM	     1000000ULL

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
			"quota: %s would limit nothing: this node has %" PRIu64 " processor%s (allowed: less than "
			"%" PRIu64 "%%)", percent_format((uint32_t)q->ppm, asked), q->processors,
			q->processors == 1 ? "" : "s", q->processors * 100);
	*ret_us = us;
	return 0;
}
