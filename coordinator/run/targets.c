/* From a selector to instances, by the roles of this very moment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "run/run.h"

/* splitmix64 (Steele, Lea, Flood 2014): the same seed, the same picks. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static size_t how_many(const struct selector *s, size_t candidates)
{
	size_t n;

	switch (s->pick) {
	case PICK_ALL:
		return candidates;
	case PICK_COUNT:
		return s->pick_count;
	case PICK_PERCENT:
		/* Rounded up: 1 % of three is one, never none. */
		n = (candidates * s->pick_count + 999999) / 1000000;
		return n;
	default:
		return 1;
	}
}

int run_pick(struct run *r, const struct selector *s, const struct target ***ret, size_t *ret_count,
	struct err **err)
{
	const struct targets *all = &r->cluster.targets;
	_cleanup_free_ const struct target **list = calloc(all->count + 1, sizeof(*list));
	const struct target *primary = cluster_primary(&r->cluster);
	uint64_t seed = r->options->seed + r->next_experiment;
	size_t n = 0, wanted;
	int k;

	if (!list)
		return err_set(err, -ENOMEM, "out of memory");
	if (s->name) {
		k = targets_find(all, s->name, &list[0], err);
		if (k < 0)
			return err_wrap(err, k, "target");
		*ret = (const struct target **)steal_ptr(list);
		*ret_count = 1;
		return 0;
	}
	for (size_t i = 0; i < all->count; i++) {
		/* With nobody known to lead, an instance is what it says of itself. */
		bool is_primary = primary ? primary == &all->items[i] :
					    all->items[i].info->role != ROLE_REPLICA;

		if (s->role == SELECT_PRIMARY && !primary)
			continue;
		if (s->role == SELECT_ANY || (s->role == SELECT_PRIMARY) == is_primary)
			list[n++] = &all->items[i];
	}
	wanted = how_many(s, n);
	if (!n || wanted > n)
		return err_set(err, -ESTALE, "target \"%s\": %zu of them wanted, there are %zu", s->text,
			wanted ? wanted : 1, n);
	for (size_t i = 0; i < wanted; i++) {
		size_t k2 = i + (size_t)(next_random(&seed) % (n - i));
		const struct target *t = list[i];

		list[i] = list[k2];
		list[k2] = t;
	}
	*ret = (const struct target **)steal_ptr(list);
	*ret_count = wanted;
	return 0;
}
