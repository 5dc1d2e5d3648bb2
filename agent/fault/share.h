/* A share of what was found. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Puts the share, picked at random, in front of the list and returns how many it is: at least one of
 * any, at most `most` (0: any number). item_size: at most SHARE_ITEM_MAX. */
#define SHARE_ITEM_MAX 256
size_t share_pick(void *list, size_t count, size_t item_size, uint64_t ppm, uint64_t most);
