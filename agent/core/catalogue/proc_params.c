#include "core/catalogue/proc_params.h"

#include <errno.h>
#include "core/cleanup.h"

int proc_params_check(const struct params *p, bool named, const char *choice, struct err **err)
{
	static const char *const names[] = {"titles", "application", "client"};
	bool any = false;

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		bool set = params_is_set(p, names[i]);

		if (set && !named)
			return err_set(err, -EINVAL, "%s: needs %s", names[i], choice);
		any = any || set;
	}
	if (named && !any)
		return err_set(err, -EINVAL, "titles, application or client: one is required with %s",
			choice);
	return 0;
}
