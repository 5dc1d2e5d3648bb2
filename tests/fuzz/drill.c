/* A drill's file: YAML into a tree, the tree into a drill, and that into YAML that is taken again. */
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "drill/drill.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(drill_freep) struct drill *d = NULL, *again = NULL;
	_cleanup_err_ struct err *err = NULL;
	_cleanup_free_ char *text = NULL;

	if (drill_parse("fuzz.yaml", (const char *)data, size, NULL, &d, &err) < 0)
		return 0;
	text = drill_to_yaml(d);
	if (!text || drill_parse("again.yaml", text, strlen(text), NULL, &again, &err) < 0)
		abort();
	return 0;
}
