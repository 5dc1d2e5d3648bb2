#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include "core/clock.h"
#include "hold/shape.h"

#define N 200000
#define MS NS_PER_MS

struct moments {
	double mean, deviation, correlation, min, max;
};

static struct moments delays_of(const struct delay_shape *asked)
{
	double sum = 0, squares = 0, products = 0, last = 0, n = N;
	struct moments m = {.min = INFINITY};
	struct shape s;

	shape_init(&s, asked, 0);
	for (int i = 0; i < N; i++) {
		double x = (double)shape_delay_ns(&s) / MS;

		sum += x;
		squares += x * x;
		products += i ? x * last : 0;
		last = x;
		m.min = fmin(m.min, x);
		m.max = fmax(m.max, x);
	}
	m.mean = sum / n;
	m.deviation = sqrt(squares / n - m.mean * m.mean);
	m.correlation = (products / (n - 1) - m.mean * m.mean) / (m.deviation * m.deviation);
	return m;
}

Test(shape, constant_delay_is_exact)
{
	const struct delay_shape asked = {.delay_ns = 123457};
	struct shape s;
	bool ahead;

	shape_init(&s, &asked, 0);
	for (uint64_t i = 0; i < 100; i++) {
		cr_expect_eq(shape_due_ns(&s, 1000 + i, 100, &ahead), 1000 + i + 123457);
		cr_expect_not(ahead);
	}
}

Test(shape, uniform)
{
	struct moments m = delays_of(&(struct delay_shape){
		.delay_ns = 20 * MS, .jitter_ns = 5 * MS, .seed = 1});

	cr_expect_float_eq(m.mean, 20, 0.05);
	cr_expect_float_eq(m.deviation, 5 / sqrt(3), 0.05);
	cr_expect_float_eq(m.correlation, 0, 0.02);
	cr_expect(m.min >= 15 && m.min < 15.01);
	cr_expect(m.max <= 25 && m.max > 24.99);
}

Test(shape, uniform_fills_its_range_evenly)
{
	const struct delay_shape asked = {.delay_ns = 10 * MS, .jitter_ns = 10 * MS, .seed = 5};
	unsigned bins[20] = {0};
	double chi2 = 0;
	struct shape s;

	shape_init(&s, &asked, 0);
	for (int i = 0; i < N; i++) {
		uint64_t ms = shape_delay_ns(&s) / MS;

		bins[ms < 20 ? ms : 19]++;
	}
	for (int i = 0; i < 20; i++)
		chi2 += pow(bins[i] - N / 20.0, 2) / (N / 20.0);
	/* 19 degrees of freedom: 43.8 is passed once in a thousand; the seed is fixed. */
	cr_expect_lt(chi2, 43.8);
}

Test(shape, normal)
{
	struct moments m = delays_of(&(struct delay_shape){.delay_ns = 50 * MS,
		.jitter_ns = 10 * MS, .distribution = DELAY_NORMAL, .seed = 2});

	cr_expect_float_eq(m.mean, 50, 0.1);
	cr_expect_float_eq(m.deviation, 10, 0.1);
	cr_expect(m.max > 85 && m.max < 110);
}

Test(shape, pareto)
{
	struct moments m = delays_of(&(struct delay_shape){.delay_ns = 50 * MS,
		.jitter_ns = 10 * MS, .distribution = DELAY_PARETO, .seed = 3});

	cr_expect_float_eq(m.mean, 50, 0.3);
	/* The variance of a tail of shape 3 is slow to show itself. */
	cr_expect(m.deviation > 8 && m.deviation < 12);
	cr_expect_float_eq(m.min, 50 - 5.0 / 0.8660254, 0.01);
	cr_expect(m.max > 150, "no long tail: %f", m.max);
}

Test(shape, correlation_keeps_the_distribution)
{
	static const enum delay_distribution all[] = {DELAY_UNIFORM, DELAY_NORMAL, DELAY_PARETO};

	for (size_t i = 0; i < 3; i++) {
		struct delay_shape asked = {.delay_ns = 50 * MS, .jitter_ns = 10 * MS,
			.distribution = all[i], .seed = 4};
		struct moments without = delays_of(&asked), with;

		asked.correlation_ppm = 700000;
		with = delays_of(&asked);
		cr_expect_float_eq(with.mean, without.mean, 0.3);
		cr_expect(fabs(with.deviation - without.deviation) < 1.5);
		cr_expect(with.correlation > 0.5 && with.correlation < 0.8, "correlation %f",
			with.correlation);
	}
}

Test(shape, a_delay_is_never_negative)
{
	struct moments m = delays_of(&(struct delay_shape){.delay_ns = 5 * MS,
		.jitter_ns = 5 * MS, .distribution = DELAY_NORMAL, .seed = 6});

	cr_expect_eq(m.min, 0);
	cr_expect_lt(m.max, 40);
}

Test(shape, jitter_keeps_the_order)
{
	const struct delay_shape asked = {.delay_ns = 20 * MS, .jitter_ns = 20 * MS, .seed = 7};
	uint64_t last = 0;
	struct shape s;
	bool ahead;

	shape_init(&s, &asked, 0);
	for (uint64_t i = 0; i < 10000; i++) {
		uint64_t due = shape_due_ns(&s, i * 100000, 100, &ahead);

		cr_assert_geq(due, last);
		cr_assert_geq(due, i * 100000);
		last = due;
	}
}

Test(shape, reorder_sends_its_share_ahead)
{
	const struct delay_shape asked = {.delay_ns = 20 * MS, .reorder_ppm = 250000, .seed = 8};
	unsigned aheads = 0;
	struct shape s;
	bool ahead;

	shape_init(&s, &asked, 0);
	for (int i = 0; i < N; i++) {
		uint64_t due = shape_due_ns(&s, 1000, 100, &ahead);

		cr_assert_eq(due, ahead ? 1000 : 1000 + 20 * MS);
		aheads += ahead;
	}
	cr_expect_float_eq(aheads / (double)N, 0.25, 0.005);
}

/* Share that is lost, and the mean length of a run of losses. */
static double loss_of(const struct delay_shape *asked, double *ret_run)
{
	unsigned lost = 0, runs = 0;
	bool last = false;
	struct shape s;

	shape_init(&s, asked, 0);
	for (int i = 0; i < N; i++) {
		bool loses = shape_loses(&s);

		lost += loses;
		runs += loses && !last;
		last = loses;
	}
	*ret_run = runs ? (double)lost / runs : 0;
	return (double)lost / N;
}

Test(shape, random_loss)
{
	double run, share = loss_of(&(struct delay_shape){.loss_ppm = 50000, .seed = 9}, &run);

	cr_expect_float_eq(share, 0.05, 0.003);
	cr_expect_float_eq(run, 1 / 0.95, 0.03);
	cr_expect_eq(loss_of(&(struct delay_shape){.seed = 9}, &run), 0);
	cr_expect_eq(loss_of(&(struct delay_shape){.loss_ppm = 1000000, .seed = 9}, &run), 1);
	share = loss_of(&(struct delay_shape){.loss_ppm = 100, .seed = 9}, &run);
	cr_expect(share > 0.00002 && share < 0.0003);
}

Test(shape, correlated_loss_keeps_its_share)
{
	double run, share = loss_of(&(struct delay_shape){.loss_ppm = 100000,
		.loss_correlation_ppm = 800000, .seed = 10}, &run);

	cr_expect_float_eq(share, 0.1, 0.01);
	cr_expect_gt(run, 1.5);
}

Test(shape, gilbert_elliott)
{
	/* Bad for p / (p + r) of the time, in bursts of 1 / r. */
	double run, share = loss_of(&(struct delay_shape){.loss_model = LOSS_GILBERT_ELLIOTT,
		.ge_p_ppm = 10000, .ge_r_ppm = 250000, .ge_loss_bad_ppm = 1000000, .seed = 11}, &run);

	cr_expect_float_eq(share, 0.01 / 0.26, 0.004);
	cr_expect_float_eq(run, 4, 0.3);
	share = loss_of(&(struct delay_shape){.loss_model = LOSS_GILBERT_ELLIOTT, .ge_p_ppm = 500000,
		.ge_r_ppm = 500000, .ge_loss_bad_ppm = 400000, .ge_loss_good_ppm = 200000,
		.seed = 12}, &run);
	cr_expect_float_eq(share, 0.3, 0.01);
}

Test(shape, duplicate_and_corrupt_shares)
{
	const struct delay_shape asked = {.duplicate_ppm = 30000, .corrupt_ppm = 7000, .seed = 13};
	unsigned twice = 0, corrupt = 0;
	struct shape s;

	shape_init(&s, &asked, 0);
	for (int i = 0; i < N; i++) {
		twice += shape_duplicates(&s);
		corrupt += shape_corrupts(&s);
	}
	cr_expect_float_eq(twice / (double)N, 0.03, 0.002);
	cr_expect_float_eq(corrupt / (double)N, 0.007, 0.001);
}

Test(shape, rate_spaces_frames_by_their_length)
{
	/* 8 Mbit/s: a microsecond a byte. */
	const struct delay_shape asked = {.rate_bits_per_s = 8000000, .delay_ns = 5000};
	struct shape s;
	bool ahead;

	shape_init(&s, &asked, 0);
	cr_expect_eq(shape_due_ns(&s, 0, 1000, &ahead), 1000000 + 5000);
	cr_expect_eq(shape_due_ns(&s, 0, 500, &ahead), 1500000 + 5000);
	/* The link was free again at 1.5 ms. */
	cr_expect_eq(shape_due_ns(&s, 2000000, 100, &ahead), 2100000 + 5000);
}

Test(shape, burst_passes_at_once)
{
	const struct delay_shape asked = {.rate_bits_per_s = 8000000, .burst_bytes = 3000};
	struct shape s;
	bool ahead;

	shape_init(&s, &asked, 0);
	for (int i = 0; i < 3; i++)
		cr_expect_eq(shape_due_ns(&s, 10, 1000, &ahead), 10);
	cr_expect_eq(shape_due_ns(&s, 10, 1000, &ahead), 10 + 1000000);
	/* After a long pause the burst is whole again, and not larger. */
	for (int i = 0; i < 3; i++)
		cr_expect_eq(shape_due_ns(&s, NS_PER_S, 1000, &ahead), NS_PER_S);
	cr_expect_eq(shape_due_ns(&s, NS_PER_S, 1000, &ahead), NS_PER_S + 1000000);
}

Test(shape, the_same_seed_makes_the_same_choices)
{
	const struct delay_shape asked = {.delay_ns = MS, .jitter_ns = MS, .loss_ppm = 200000,
		.seed = 99};
	struct delay_shape other = asked;
	unsigned same = 0, same_lane = 0;
	struct shape a, b, c, d;

	other.seed = 100;
	shape_init(&a, &asked, 0);
	shape_init(&b, &asked, 0);
	shape_init(&c, &other, 0);
	shape_init(&d, &asked, 1);
	for (int i = 0; i < 1000; i++) {
		uint64_t delay = shape_delay_ns(&a);

		cr_assert_eq(delay, shape_delay_ns(&b));
		same += delay == shape_delay_ns(&c);
		same_lane += delay == shape_delay_ns(&d);
		cr_assert_eq(shape_loses(&a), shape_loses(&b));
	}
	cr_expect_lt(same, 5);
	cr_expect_lt(same_lane, 5);
}

Test(shape, one_choice_does_not_move_another)
{
	const struct delay_shape plain = {.delay_ns = MS, .jitter_ns = MS, .seed = 3};
	struct delay_shape lossy = plain;
	struct shape a, b;

	lossy.loss_ppm = 500000;
	shape_init(&a, &plain, 0);
	shape_init(&b, &lossy, 0);
	for (int i = 0; i < 100; i++) {
		shape_loses(&b);
		cr_assert_eq(shape_delay_ns(&a), shape_delay_ns(&b));
	}
}
