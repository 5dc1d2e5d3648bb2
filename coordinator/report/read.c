#include "report/read.h"

#include <math.h>
#include <string.h>

const char *report_text_or(const cJSON *o, const char *name, const char *otherwise)
{
	const cJSON *item = json_get(o, name);

	return cJSON_IsString(item) && item->valuestring ? item->valuestring : otherwise;
}

const char *report_text(const cJSON *o, const char *name)
{
	return report_text_or(o, name, "");
}

double report_number(const cJSON *o, const char *name)
{
	const cJSON *item = json_get(o, name);

	return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : NAN;
}

bool report_true(const cJSON *o, const char *name)
{
	return cJSON_IsTrue(json_get(o, name));
}

const cJSON *report_list(const cJSON *o, const char *name)
{
	const cJSON *item = json_get(o, name);

	return cJSON_IsArray(item) ? item : NULL;
}

char *report_duration(double ms, char buf[static UNITS_TEXT_MAX])
{
	char text[UNITS_TEXT_MAX];

	if (isnan(ms)) {
		buf[0] = '\0';
		return buf;
	}
	if (fabs(ms) < 1e-6)
		return strcpy(buf, "0");
	/* 300 years: what is above is no time of ours. */
	if (fabs(ms) > 1e13)
		ms = copysign(1e13, ms);
	duration_human((uint64_t)llround(fabs(ms) * 1e6), text);
	snprintf(buf, UNITS_TEXT_MAX, "%s%.30s", ms < 0 ? "-" : "", text);
	return buf;
}

char *report_count(double n, char buf[static UNITS_TEXT_MAX])
{
	if (isnan(n))
		buf[0] = '\0';
	else
		snprintf(buf, UNITS_TEXT_MAX, "%.0f", fabs(n) > 1e15 ? copysign(1e15, n) : n);
	return buf;
}

const struct report_milestone report_milestones[MILESTONE_MAX] = {
	[T0] = {"t0", "T0", "the fault fired"},
	[T1] = {"t1", "T1", "first failed or slow write"},
	[T2] = {"t2", "T2", "the manager reacted"},
	[T3] = {"t3", "T3", "a new primary was chosen"},
	[T4] = {"t4", "T4", "it left recovery"},
	[T5] = {"t5", "T5", "writes worked again"},
	[T6] = {"t6", "T6", "reads worked again"},
	[T7] = {"t7", "T7", "the old primary followed"},
	[T8] = {"t8", "T8", "full redundancy"},
};

const struct report_figure_info report_figures[FIGURE_MAX] = {
	[FIGURE_TTD] = {"ttd_ms", "manager_resolution_ms", "time to detect",
		"from the fault to the manager's first reaction"},
	[FIGURE_WRITE_TTR] = {"write_ttr_ms", "resolution_ms", "writes back after",
		"from the fault to the first acknowledged write"},
	[FIGURE_READ_TTR] = {"read_ttr_ms", "read_resolution_ms", "reads back after",
		"from the fault to the first read"},
	[FIGURE_FULL_TTR] = {"full_ttr_ms", "poll_resolution_ms", "full redundancy after",
		"from the fault until all instances stream"},
	[FIGURE_WRITE_DOWNTIME] = {"write_downtime_ms", "resolution_ms", "write downtime",
		"sum of the times without an acknowledged write"},
	[FIGURE_READ_DOWNTIME] = {"read_downtime_ms", "read_resolution_ms", "read downtime",
		"sum of the times without a read"},
};

static const char *why_not_back(const cJSON *report, const char *outages, const char *failed,
	const char *none)
{
	if (cJSON_GetArraySize(report_list(report, outages)) > 0)
		return "did not come back";
	return report_true(report, failed) ? "no outage" : none;
}

static const char *why_absent(const cJSON *report, enum report_figure f)
{
	const char *redundancy = report_text(report, "redundancy");

	if (isnan(report_number(report, "t0_ms")))
		return "no fault fired";
	switch (f) {
	case FIGURE_TTD:
		return "no reaction seen";
	case FIGURE_WRITE_TTR:
		return why_not_back(report, "write_outages", "writes_failed", "no write failed");
	case FIGURE_READ_TTR:
		return why_not_back(report, "read_outages", "reads_failed", "no read failed");
	case FIGURE_FULL_TTR:
		return *redundancy == 'k' ? "redundancy was never lost" :
		       *redundancy == 'l' ? "did not come back" : "not seen";
	default:
		return "not seen";
	}
}

char *report_figure(const cJSON *report, enum report_figure f, char buf[static REPORT_WORDS_MAX])
{
	double ms = report_number(report, report_figures[f].key);
	char text[UNITS_TEXT_MAX];
	bool downtime = f == FIGURE_WRITE_DOWNTIME || f == FIGURE_READ_DOWNTIME;

	if (isnan(ms) || (downtime && isnan(report_number(report, "t0_ms"))))
		snprintf(buf, REPORT_WORDS_MAX, "%s", why_absent(report, f));
	else if (downtime && ms <= 0)
		snprintf(buf, REPORT_WORDS_MAX, "none");
	else
		snprintf(buf, REPORT_WORDS_MAX, "%s", report_duration(ms, text));
	return buf;
}

int report_flush(FILE *f, struct err **err)
{
	if (fflush(f) || ferror(f))
		return err_set(err, -EIO, "the report could not be written");
	return 0;
}
