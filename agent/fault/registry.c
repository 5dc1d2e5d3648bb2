/* The faults of this agent. A new one is a line of declaration and a line in the table. */
#include <string.h>
#include "core/cleanup.h"
#include "fault/fault.h"

extern const struct fault_driver driver_net_partition;
extern const struct fault_driver driver_net_shape;
extern const struct fault_driver driver_dns;
extern const struct fault_driver driver_tls_cert;
extern const struct fault_driver driver_proc_kill;
extern const struct fault_driver driver_proc_freeze;
extern const struct fault_driver driver_conn_reset;
extern const struct fault_driver driver_clock_skew;
extern const struct fault_driver driver_disk_latency;
extern const struct fault_driver driver_disk_error;
extern const struct fault_driver driver_disk_throttle;
extern const struct fault_driver driver_cpu_throttle;
extern const struct fault_driver driver_cpu_stress;
extern const struct fault_driver driver_mem_stress;
extern const struct fault_driver driver_disk_stress;
extern const struct fault_driver driver_disk_fill;

static const struct fault_driver *const drivers[] = {
	&driver_net_partition,
	&driver_net_shape,
	&driver_dns,
	&driver_tls_cert,
	&driver_proc_kill,
	&driver_proc_freeze,
	&driver_conn_reset,
	&driver_clock_skew,
	&driver_disk_latency,
	&driver_disk_error,
	&driver_disk_throttle,
	&driver_cpu_throttle,
	&driver_cpu_stress,
	&driver_mem_stress,
	&driver_disk_stress,
	&driver_disk_fill,
	NULL,
};

const struct fault_driver *const *registry_drivers(void)
{
	return drivers;
}

/* Through the catalogue, whose error names the nearest fault for a mistyped one. */
int registry_find(const char *name, const struct fault_driver **ret, struct err **err)
{
	const struct fault_spec *spec;
	int r;

	r = catalogue_find(name, &spec, err);
	if (r < 0)
		return r;
	for (size_t i = 0; drivers[i]; i++) {
		if (drivers[i]->spec == spec) {
			*ret = drivers[i];
			return 0;
		}
	}
	return err_set(err, EOPNOTSUPP, "fault '%s': this agent has no driver for it", name);
}

static bool in_catalogue(const struct fault_spec *spec)
{
	for (const struct fault_spec *const *s = catalogue_faults(); *s; s++)
		if (*s == spec)
			return true;
	return false;
}

int registry_check(struct err **err)
{
	for (size_t i = 0; drivers[i]; i++) {
		const struct fault_driver *d = drivers[i];

		if (!d->spec || !in_catalogue(d->spec))
			return err_set(err, EINVAL, "driver %zu has no fault of the catalogue", i);
		if (!d->probe || !d->arm || !d->fire || !d->observe || !d->release ||
		    (d->revert && !d->verify_clean) || (d->place && !d->revert))
			return err_set(err, EINVAL, "driver of %s lacks an operation", d->spec->name);
		for (size_t k = 0; k < i; k++)
			if (drivers[k]->spec == d->spec)
				return err_set(err, EINVAL, "%s has two drivers", d->spec->name);
	}
	return 0;
}
