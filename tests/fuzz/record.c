/* What the journal may hold: the name of a fault, a line feed, its record. As nobody, who can change
 * nothing of this machine. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/cleanup.h"
#include "core/json.h"
#include "fault/fault.h"
#include "fuzz.h"

#define NOBODY 65534

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	if (geteuid() == 0 && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_json_ cJSON *record = NULL;
	const struct fault_driver *d;
	char name[64] = "";
	struct undo u;

	if (!line || (size_t)(line - data) >= sizeof(name))
		return 0;
	memcpy(name, data, (size_t)(line - data));
	if (registry_find(name, &d, NULL) < 0 ||
	    json_parse((const char *)line + 1, size - (size_t)(line + 1 - data), &record, NULL) < 0)
		return 0;
	u = (struct undo){.spec = d->spec, .record = record};
	if ((!d->revert || d->revert(&u, &err) == 0) && d->verify_clean)
		d->verify_clean(&u, &err);
	return 0;
}
