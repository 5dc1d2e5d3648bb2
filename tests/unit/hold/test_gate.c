#include <criterion/criterion.h>
#include <errno.h>
#include "core/clock.h"
#include "hold/gate.h"

#define DELAY_NS (5 * NS_PER_MS)

Test(gate, chooses_a_share)
{
	const struct gate_effect effect = {
		.delay = {.delay_ns = DELAY_NS, .loss_ppm = 250000, .seed = 3},
	};
	unsigned held = 0;
	struct gate g;

	gate_init(&g, &effect);
	for (int i = 0; i < 20000; i++) {
		uint64_t delay = 0;

		if (gate_choose(&g, &delay) == GATE_HOLD) {
			cr_assert_eq(delay, DELAY_NS);
			held++;
		}
	}
	cr_expect(held > 4700 && held < 5300, "%u of 20000", held);
	cr_expect_eq(g.counts.matched, 20000);
}

Test(gate, two_gates_share_the_calls_that_pass_first)
{
	_Atomic uint64_t matched = 0;
	const struct gate_effect effect = {
		.delay = {.loss_ppm = 1000000}, .code = EIO, .after = 3, .matched = &matched,
	};
	struct gate a, b;
	uint64_t delay;

	gate_init(&a, &effect);
	gate_init(&b, &effect);
	cr_expect_eq(gate_choose(&a, &delay), GATE_PASS);
	cr_expect_eq(gate_choose(&b, &delay), GATE_PASS);
	cr_expect_eq(gate_choose(&a, &delay), GATE_PASS);
	cr_expect_eq(gate_choose(&b, &delay), GATE_FAIL);
	cr_expect_eq(gate_choose(&a, &delay), GATE_FAIL);
}

Test(gate, is_open_until_its_deadline)
{
	const struct gate_effect effect = {.delay = {.loss_ppm = 1000000}};
	struct gate g;

	gate_init(&g, &effect);
	cr_expect_not(gate_is_open(&g));
	gate_set_deadline(&g, boot_ns() + 60 * NS_PER_S);
	cr_expect(gate_is_open(&g));
	gate_set_deadline(&g, boot_ns() - 1);
	cr_expect_not(gate_is_open(&g));
}

Test(gate, publishes_what_it_counts)
{
	const struct gate_effect effect = {.delay = {.delay_ns = DELAY_NS, .loss_ppm = 1000000}};
	struct gate_counts c;
	struct gate g;

	gate_init(&g, &effect);
	gate_count_hit(&g, GATE_HOLD, DISK_WRITE, DISK_WAL, 8192);
	gate_count_hit(&g, GATE_HOLD, DISK_OPERATION_MAX, DISK_CLASS_MAX, 0);
	gate_count_given(&g, DELAY_NS + 40000, 40000);
	gate_counts(&g, &c);
	cr_expect_eq(c.delayed, 0, "not published yet");
	gate_publish(&g);
	gate_counts(&g, &c);
	cr_expect_eq(c.delayed, 2);
	cr_expect_eq(c.held, 1);
	cr_expect_eq(c.held_peak, 2);
	cr_expect_eq(c.bytes, 8192);
	cr_expect_eq(c.operations[DISK_WRITE], 1);
	cr_expect_eq(c.classes[DISK_WAL], 1);
	cr_expect_eq(c.delay_min_ns, DELAY_NS + 40000);
	cr_expect_eq(c.error_max_ns, 40000);
	cr_expect_eq(c.error_buckets[5], 1, "32 to 64 us");
}
