#include <criterion/criterion.h>
#include <errno.h>
#include "hold/queue.h"

Test(queue, leaves_by_due_time)
{
	static int items[5];
	static const uint64_t due[5] = {50, 10, 40, 20, 30};
	struct queue_entry e;
	struct queue q;
	uint64_t last = 0;

	queue_init(&q, 0);
	for (size_t i = 0; i < 5; i++)
		cr_assert_eq(queue_push(&q, due[i], &items[i]), 0);
	cr_expect_eq(queue_head(&q)->item, &items[1]);
	while (queue_pop(&q, &e)) {
		cr_expect_gt(e.due_ns, last);
		last = e.due_ns;
	}
	cr_expect_eq(last, 50);
	cr_expect_null(queue_head(&q));
	queue_done(&q);
}

Test(queue, keeps_the_order_of_equal_times)
{
	static char items[1000];
	struct queue_entry e;
	struct queue q;

	queue_init(&q, 0);
	for (size_t i = 0; i < 1000; i++)
		cr_assert_eq(queue_push(&q, i % 3, &items[i]), 0);
	for (size_t due = 0; due < 3; due++) {
		for (size_t i = due; i < 1000; i += 3) {
			cr_assert(queue_pop(&q, &e));
			cr_assert_eq(e.due_ns, due);
			cr_assert_eq(e.item, &items[i], "item %zu out of order", i);
		}
	}
	cr_expect_not(queue_pop(&q, &e));
	queue_done(&q);
}

Test(queue, stays_sorted_while_pushed_and_popped)
{
	uint64_t state = 7, floor = 0, pushed = 0, popped = 0;
	struct queue_entry e;
	struct queue q;

	queue_init(&q, 0);
	for (int round = 0; round < 20000; round++) {
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		if (state >> 62) {
			/* Never before what has left already. */
			cr_assert_eq(queue_push(&q, floor + (state >> 40 & 0xffff), NULL), 0);
			pushed++;
		} else if (queue_pop(&q, &e)) {
			cr_assert_geq(e.due_ns, floor);
			floor = e.due_ns;
			popped++;
		}
	}
	while (queue_pop(&q, &e)) {
		cr_assert_geq(e.due_ns, floor);
		floor = e.due_ns;
		popped++;
	}
	cr_expect_eq(pushed, popped);
	queue_done(&q);
}

Test(queue, refuses_beyond_its_bound)
{
	struct queue_entry e;
	struct queue q;

	queue_init(&q, 2);
	cr_expect_eq(queue_push(&q, 1, NULL), 0);
	cr_expect_eq(queue_push(&q, 1, NULL), 0);
	cr_expect_eq(queue_push(&q, 1, NULL), -ENOBUFS);
	cr_expect(queue_pop(&q, &e));
	cr_expect_eq(queue_push(&q, 1, NULL), 0);
	queue_done(&q);
}
