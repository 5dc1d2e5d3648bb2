/* The claims that a ConfigMap holds: what is taken is written, and that is taken again. */
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

static cJSON *map_with(const char *text)
{
	cJSON *map = json_object(), *data = json_object();

	json_add_string(data, "claims", text);
	json_add_item(map, "data", data);
	return map;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size), *words = NULL;
	_cleanup_json_ cJSON *map = NULL, *again = NULL;
	_cleanup_err_ struct err *err = NULL;
	struct claims first = {0}, second = {0};

	if (!text)
		return 0;
	map = map_with(text);
	if (claims_read(map, &first, &err) < 0)
		return 0;
	words = claims_words(&first);
	again = claims_map("pgjolt", "n", "c", &first, map);
	if (claims_read(again, &second, &err) < 0 || first.count != second.count)
		abort();
	claims_expire(&second, 2000000000);
	claims_done(&first);
	claims_done(&second);
	return 0;
}
