/* The claims that a Lease holds: what is taken is written, and that is taken again. */
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fuzz.h"
#include "kubeapi/claims.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static cJSON *lease_with(const char *text)
{
	cJSON *lease = json_object(), *metadata = json_object(), *annotations = json_object();

	json_add_string(annotations, "pgjolt.io/claims", text);
	json_add_item(metadata, "annotations", annotations);
	json_add_item(lease, "metadata", metadata);
	return lease;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size), *words = NULL;
	_cleanup_json_ cJSON *lease = NULL, *again = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct claims first = {0}, second = {0};

	if (!text)
		return 0;
	lease = lease_with(text);
	if (claims_read(lease, &first, &err) < 0)
		return 0;
	words = claims_words(&first);
	again = claims_lease_with(lease, &first);
	if (claims_read(again, &second, &err) < 0 || first.count != second.count)
		abort();
	claims_expire(&second, 2000000000);
	claims_done(&first);
	claims_done(&second);
	return 0;
}
