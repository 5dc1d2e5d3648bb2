#include "core/catalogue/volume_params.h"

#include <stddef.h>

const char *const volume_choices[] = {"data", "wal", NULL};
