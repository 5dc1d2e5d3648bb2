#include "fault/share.h"

#include <string.h>
#include <sys/random.h>
#include "core/clock.h"

static void swap(char *a, char *b, size_t size)
{
	char kept[SHARE_ITEM_MAX];

	memcpy(kept, a, size);
	memmove(a, b, size);
	memcpy(b, kept, size);
}

size_t share_pick(void *list, size_t count, size_t item_size, uint64_t ppm, uint64_t most)
{
	size_t share = (size_t)((count * ppm + 999999) / 1000000);
	char *items = list;

	if (most > 0 && share > most)
		share = (size_t)most;
	if (share > count)
		share = count;
	for (size_t i = 0; i < share && share < count; i++) {
		uint64_t random = 0;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			random = now_ns();
		swap(items + i * item_size, items + (i + random % (count - i)) * item_size, item_size);
	}
	return share;
}
