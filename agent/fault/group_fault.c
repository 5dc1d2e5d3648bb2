#include "fault/group_fault.h"

#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"

void group_fault_free(struct group_fault *x)
{
	if (!x)
		return;
	group_settings_done(&x->settings);
	group_target_done(&x->group);
	free(x);
}

int group_fault_probe(const char *controller, const char *v2_file, const char *v1_file, struct support *ret)
{
	_cleanup_err_ struct err *why = NULL;
	const char *mechanism;
	int r;

	r = group_controller_probe(controller, v2_file, v1_file, &mechanism, &why);
	ret->supported = r >= 0;
	if (r >= 0)
		ret->mechanism = strdup(mechanism);
	else
		ret->reason = strdup(err_text(why));
	return 0;
}

void group_fault_armed(struct group_fault *x, struct fault *f, struct undo *ret)
{
	ret->record = group_settings_record(&x->settings);
	f->mechanism = x->group.v2 ? "cgroup v2" : "cgroup v1";
	f->lifetime = LIFETIME_JOURNALED;
	f->state = x;
}

void group_fault_release(struct fault *f)
{
	group_fault_free(f->state);
	f->state = NULL;
}
