/* No manager: roles are what the instances themselves are, as their agents see them. */
#pragma once

#include "manager/manager.h"

extern const struct manager_driver manager_plain;
