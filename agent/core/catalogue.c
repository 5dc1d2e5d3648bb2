#include "core/catalogue.h"

#include <string.h>
#include "core/nearest.h"

static const char *const lifetime_words[LIFETIME_MAX] = {
	[LIFETIME_HELD] = "held",
	[LIFETIME_EXPIRING] = "expiring",
	[LIFETIME_JOURNALED] = "journaled",
};
DEFINE_STRING_TABLE(lifetime, enum lifetime, lifetime_words)

static const struct fault_spec *const faults[] = {
	&fault_net_partition,
	&fault_net_shape,
	&fault_dns,
	&fault_tls_cert,
	&fault_proc_kill,
	&fault_proc_freeze,
	&fault_conn_reset,
	&fault_clock_skew,
	&fault_disk_latency,
	&fault_disk_error,
	&fault_disk_throttle,
	&fault_cpu_throttle,
	&fault_cpu_stress,
	&fault_mem_stress,
	&fault_disk_stress,
	&fault_disk_fill,
	NULL,
};

const struct fault_spec *const *catalogue_faults(void)
{
	return faults;
}

int catalogue_find(const char *name, const struct fault_spec **ret, struct err **err)
{
	const char *names[ELEMENTS(faults)];
	const char *near;
	size_t n;

	for (n = 0; faults[n]; n++) {
		if (name && strcmp(faults[n]->name, name) == 0) {
			*ret = faults[n];
			return 0;
		}
		names[n] = faults[n]->name;
	}
	near = nearest_word(name, names, n);
	if (near)
		return err_set(err, -EINVAL, "there is no fault \"%.64s\"; did you mean \"%s\"?",
			name, near);
	return err_set(err, -EINVAL, "there is no fault \"%.64s\"; \"pgjolt faults\" lists them",
		name ? name : "");
}
