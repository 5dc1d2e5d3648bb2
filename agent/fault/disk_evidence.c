#include "fault/disk_evidence.h"

cJSON *disk_evidence(const struct gate_counts *c)
{
	cJSON *o = json_object(), *operations = json_object(), *paths = json_object();
	uint64_t given = c->delayed - (c->held < c->delayed ? c->held : c->delayed);
	uint64_t passed = c->seen - (c->delayed + c->failed < c->seen ? c->delayed + c->failed : c->seen);

	json_add_uint(o, "seen", c->seen);
	json_add_uint(o, "matched", c->matched);
	json_add_uint(o, "delayed", c->delayed);
	json_add_uint(o, "failed", c->failed);
	json_add_uint(o, "bytes", c->bytes);
	json_add_uint(o, "held", c->held);
	json_add_uint(o, "held_peak", c->held_peak);
	json_add_uint(o, "lost", c->lost);
	for (enum disk_operation i = 0; i < DISK_OPERATION_MAX; i++)
		if (c->operations[i])
			json_add_uint(operations, disk_operation_to_string(i), c->operations[i]);
	for (enum disk_class i = 0; i < DISK_CLASS_MAX; i++)
		if (c->classes[i])
			json_add_uint(paths, disk_class_to_string(i), c->classes[i]);
	json_add_item(o, "operations", operations);
	json_add_item(o, "paths", paths);
	if (given) {
		json_add_ms(o, "delay_min_ms", c->delay_min_ns);
		json_add_ms(o, "delay_avg_ms", c->delay_sum_ns / given);
		json_add_ms(o, "delay_max_ms", c->delay_max_ns);
		json_add_ms(o, "error_p99_ms", delay_histogram_quantile(c->error_buckets, 0.99));
		json_add_ms(o, "error_max_ms", c->error_max_ns);
	}
	if (passed) {
		json_add_double(o, "passed_avg_us", (double)c->passed_sum_ns / (double)passed / 1000);
		json_add_double(o, "passed_max_us", (double)c->passed_max_ns / 1000);
	}
	return o;
}
