#include <math.h>
#include "core/clock.h"
#include "hold/shape.h"

#define PPM 1000000U
#define PARETO_SHAPE 3.0
#define PARETO_JITTERS_MAX 50.0

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t random_next(struct random_stream *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* In (0, 1), so that logarithms and negative powers are finite. */
static double random_uniform(struct random_stream *r)
{
	return ((double)(random_next(r) >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller's transform. */
static double random_normal(struct random_stream *r)
{
	double radius = sqrt(-2.0 * log(random_uniform(r)));

	return radius * cos(2.0 * M_PI * random_uniform(r));
}

static double correlated_normal(struct random_stream *r, uint32_t correlation_ppm)
{
	double rho = (double)correlation_ppm / PPM, next = random_normal(r);

	if (r->started)
		next = rho * r->last + sqrt(1.0 - rho * rho) * next;
	r->started = true;
	r->last = next;
	return next;
}

static double correlated_uniform(struct random_stream *r, uint32_t correlation_ppm)
{
	double u;

	if (!correlation_ppm)
		return random_uniform(r);
	u = 0.5 * erfc(-correlated_normal(r, correlation_ppm) * M_SQRT1_2);
	return fmin(fmax(u, 0x1p-54), 1.0 - 0x1p-53);
}

static bool happens(struct random_stream *r, uint32_t chance_ppm)
{
	return chance_ppm && random_uniform(r) * PPM < chance_ppm;
}

void shape_init(struct shape *s, const struct delay_shape *asked, unsigned lane)
{
	struct random_stream root = {.state = asked->seed};

	*s = (struct shape){.asked = asked};
	root.state = random_next(&root) + lane;
	s->delay.state = random_next(&root);
	s->loss.state = random_next(&root);
	s->duplicate.state = random_next(&root);
	s->reorder.state = random_next(&root);
	s->corrupt.state = random_next(&root);
}

static bool gilbert_elliott_loses(struct shape *s)
{
	const struct delay_shape *a = s->asked;
	bool lost = happens(&s->loss, s->bad ? a->ge_loss_bad_ppm : a->ge_loss_good_ppm);

	if (happens(&s->loss, s->bad ? a->ge_r_ppm : a->ge_p_ppm))
		s->bad = !s->bad;
	return lost;
}

bool shape_loses(struct shape *s)
{
	const struct delay_shape *a = s->asked;

	if (a->loss_model == LOSS_GILBERT_ELLIOTT)
		return gilbert_elliott_loses(s);
	return a->loss_ppm &&
	       correlated_uniform(&s->loss, a->loss_correlation_ppm) * PPM < a->loss_ppm;
}

bool shape_corrupts(struct shape *s)
{
	return happens(&s->corrupt, s->asked->corrupt_ppm);
}

bool shape_duplicates(struct shape *s)
{
	return happens(&s->duplicate, s->asked->duplicate_ppm);
}

uint64_t shape_pick(struct shape *s, uint64_t n)
{
	return random_next(&s->corrupt) % n;
}

/* The deviation from the mean, in jitters. */
static double deviation(struct shape *s)
{
	static const double mean = PARETO_SHAPE / (PARETO_SHAPE - 1.0);
	uint32_t correlation = s->asked->correlation_ppm;
	double spread;

	switch (s->asked->distribution) {
	case DELAY_NORMAL:
		return correlated_normal(&s->delay, correlation);
	case DELAY_PARETO:
		spread = sqrt(PARETO_SHAPE / (PARETO_SHAPE - 2.0)) / (PARETO_SHAPE - 1.0);
		return fmin((pow(correlated_uniform(&s->delay, correlation), -1.0 / PARETO_SHAPE) -
			     mean) / spread, PARETO_JITTERS_MAX);
	case DELAY_UNIFORM:
	case DELAY_DISTRIBUTION_MAX:
		break;
	}
	return 2.0 * correlated_uniform(&s->delay, correlation) - 1.0;
}

uint64_t shape_delay_ns(struct shape *s)
{
	const struct delay_shape *a = s->asked;
	double away;

	if (!a->jitter_ns)
		return a->delay_ns;
	away = deviation(s) * (double)a->jitter_ns;
	if (away < 0 && -away >= (double)a->delay_ns)
		return 0;
	return away < 0 ? a->delay_ns - (uint64_t)-away : a->delay_ns + (uint64_t)away;
}

static uint64_t serialisation_ns(uint64_t bytes, uint64_t bits_per_s)
{
	/* 128 bits: 4 GiB at a nanosecond each overflow 64. */
	return (uint64_t)((unsigned __int128)bytes * 8 * NS_PER_S / bits_per_s);
}

/* The link as a token bucket, in time: it may lag `burst` behind what was accepted. */
static uint64_t link_departure_ns(struct shape *s, uint64_t arrival_ns, uint64_t wire_bytes)
{
	const struct delay_shape *a = s->asked;
	uint64_t credit;

	if (!a->rate_bits_per_s)
		return arrival_ns;
	if (s->line_free_ns < arrival_ns)
		s->line_free_ns = arrival_ns;
	s->line_free_ns += serialisation_ns(wire_bytes, a->rate_bits_per_s);
	credit = serialisation_ns(a->burst_bytes, a->rate_bits_per_s);
	return s->line_free_ns > arrival_ns + credit ? s->line_free_ns - credit : arrival_ns;
}

uint64_t shape_due_ns(struct shape *s, uint64_t arrival_ns, uint64_t wire_bytes, bool *ret_ahead)
{
	uint64_t due = link_departure_ns(s, arrival_ns, wire_bytes);

	*ret_ahead = happens(&s->reorder, s->asked->reorder_ppm);
	if (*ret_ahead)
		return due;
	due += shape_delay_ns(s);
	if (due < s->last_due_ns)
		due = s->last_due_ns;
	s->last_due_ns = due;
	return due;
}
