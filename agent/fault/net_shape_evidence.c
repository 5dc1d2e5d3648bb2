#include "fault/net_shape_evidence.h"

#include "core/json.h"

/* Frames that met something of what was asked. */
static uint64_t hits_of(const struct delay_shape *s, const struct delay_counts *c)
{
	if (s->delay_ns || s->jitter_ns || s->rate_bits_per_s)
		return c->frames;
	return c->lost + c->duplicated + c->corrupted + c->reordered + c->overflowed;
}

static cJSON *histogram_json(const uint64_t buckets[DELAY_BUCKETS])
{
	cJSON *array = json_array();

	for (unsigned i = 0; i < DELAY_BUCKETS; i++) {
		cJSON *o;

		if (!buckets[i])
			continue;
		o = json_object();
		json_add_uint(o, "from_us", i ? 1ULL << i : 0);
		if (i + 1 < DELAY_BUCKETS)
			json_add_uint(o, "below_us", 2ULL << i);
		else
			json_add_null(o, "below_us");
		json_add_uint(o, "frames", buckets[i]);
		json_append(array, o);
	}
	return array;
}

static cJSON *delay_json(const struct delay_counts *c)
{
	cJSON *o = json_object();

	json_add_ms(o, "min", c->delay_min_ns);
	json_add_ms(o, "mean", c->released ? c->delay_sum_ns / c->released : 0);
	json_add_ms(o, "max", c->delay_max_ns);
	json_add_ms(o, "error_p50_below", delay_histogram_quantile(c->error_buckets, 0.5));
	json_add_ms(o, "error_p99_below", delay_histogram_quantile(c->error_buckets, 0.99));
	json_add_ms(o, "error_max", c->error_max_ns);
	return o;
}

static int peers_json(const struct detour *detour, const struct net_rules *rules, cJSON **ret,
	uint64_t *ret_taken, struct err **err)
{
	static const char *const ways[NET_DIRECTION_MAX] = {[NET_IN] = "in", [NET_OUT] = "out"};
	_cleanup_json_ cJSON *array = json_array();
	uint64_t taken = 0;

	for (unsigned label = 0; label < rules->n_labels; label++) {
		for (unsigned d = 0; d < NET_DIRECTION_MAX; d++) {
			struct net_shape_count c;
			int r = detour_count(detour, label, (enum net_direction)d, &c, err);
			cJSON *o;

			if (r < 0)
				return r;
			if (!c.frames)
				continue;
			taken += c.frames;
			o = json_object();
			json_add_string(o, "peer", rules->labels[label]);
			json_add_string(o, "direction", ways[d]);
			json_add_uint(o, "frames", c.frames);
			json_add_uint(o, "packets", c.packets);
			json_add_uint(o, "bytes", c.bytes);
			json_append(array, o);
		}
	}
	*ret = steal_ptr(array);
	*ret_taken = taken;
	return 0;
}

int net_shape_evidence(const struct detour *d, const struct net_rules *rules,
	const struct delay_shape *shape, struct evidence *ret, struct err **err)
{
	struct delay_counts c;
	cJSON *peers, *o;
	uint64_t taken;
	int r;

	delay_line_counts(d->line, &c);
	r = peers_json(d, rules, &peers, &taken, err);
	if (r < 0)
		return r;
	o = json_object();
	json_add_uint(o, "frames", c.frames);
	json_add_uint(o, "packets", c.packets);
	json_add_uint(o, "bytes", c.bytes);
	json_add_uint(o, "released", c.released);
	json_add_uint(o, "lost", c.lost);
	json_add_uint(o, "duplicated", c.duplicated);
	json_add_uint(o, "reordered", c.reordered);
	json_add_uint(o, "corrupted", c.corrupted);
	json_add_uint(o, "overflowed", c.overflowed);
	json_add_uint(o, "write_errors", c.write_errors);
	/* Sent to a TAP and not read from it: on their way, or dropped where its queue was full. */
	json_add_uint(o, "unread", taken > c.frames ? taken - c.frames : 0);
	json_add_uint(o, "held_bytes", c.held_bytes);
	json_add_uint(o, "held_bytes_peak", c.held_bytes_peak);
	json_add_uint(o, "limit_bytes", shape->limit_bytes);
	json_add_uint(o, "seed", shape->seed);
	json_add_bool(o, "realtime", delay_line_is_realtime(d->line));
	json_add_item(o, "delay_ms", delay_json(&c));
	json_add_item(o, "delay_histogram", histogram_json(c.delay_buckets));
	json_add_item(o, "error_histogram", histogram_json(c.error_buckets));
	json_add_item(o, "peers", peers);
	*ret = (struct evidence){.hits = hits_of(shape, &c), .detail = o};
	return 0;
}
