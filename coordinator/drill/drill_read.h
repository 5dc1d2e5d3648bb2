/* The two passes over a drill's tree: variables first, since all else may use them. */
#pragma once

#include "drill/drill.h"
#include "yaml/yaml_tree.h"

int drill_read_vars(struct yaml_tree *t, struct drill *d, struct err **err);
int drill_read(struct yaml_tree *t, struct drill *d, struct err **err);
