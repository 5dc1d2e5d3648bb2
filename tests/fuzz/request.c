/* The body of a request: JSON, an experiment in it, its fault's parameters; and back into JSON. */
#include <stdlib.h>
#include "core/catalogue.h"
#include "core/cleanup.h"
#include "core/json.h"
#include "core/wire.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void try_params(const struct arm_request *request)
{
	_cleanup_(params_freep) struct params *p = NULL;
	_cleanup_json_ cJSON *again = NULL;
	_cleanup_err_ struct err *err = NULL;
	const struct fault_spec *spec;

	if (catalogue_find(request->fault, &spec, &err) < 0 ||
	    params_from_json(spec, request->params, &p, &err) < 0)
		return;
	again = params_to_json(p);
	/* What was taken once is taken again. */
	params_free(steal_ptr(p));
	if (params_from_json(spec, again, &p, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(arm_request_freep) struct arm_request *request = NULL;
	_cleanup_json_ cJSON *json = NULL, *again = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err *err = NULL;

	if (json_parse((const char *)data, size, &json, &err) < 0)
		return 0;
	text = json_print(json);
	if (arm_request_from_json(json, &request, &err) < 0)
		return 0;
	again = arm_request_to_json(request);
	if (request->fault && request->params)
		try_params(request);
	return 0;
}
