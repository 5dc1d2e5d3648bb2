/* The delay line with socket pairs for TAPs: what it would read from the kernel is sent from here,
 * and what it writes back comes out here. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "core/clock.h"
#include "hold/delay_line.h"
#include "hold/frame.h"

#define MS NS_PER_MS
#define LIMIT (8UL << 20)
#define FRAME_BYTES 200U

static struct delay_line *line;
static int ends[2];

static void open_line(struct delay_shape shape, unsigned n)
{
	_cleanup_err_ struct err *err = NULL;
	int taps[2];

	for (unsigned i = 0; i < n; i++) {
		int pair[2], room = 4 << 20;

		cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
		setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
		ends[i] = pair[0];
		taps[i] = pair[1];
	}
	if (!shape.limit_bytes)
		shape.limit_bytes = LIMIT;
	cr_assert_eq(delay_line_new(&shape, NULL, taps, n, &line, &err), 0, "%s", err_text(err));
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(taps[i], -1);
}

static void close_line(unsigned n)
{
	delay_line_free(line);
	line = NULL;
	for (unsigned i = 0; i < n; i++)
		close(ends[i]);
}

/* A frame that carries a number. */
static void send_frame(int fd, uint32_t number, size_t length)
{
	uint8_t frame[FRAME_LENGTH_MAX] = {0};

	memcpy(frame + FRAME_HEADER_SIZE + 14, &number, sizeof(number));
	cr_assert_eq(send(fd, frame, length, 0), (ssize_t)length);
}

/* Its number, or -1 if none comes in time. */
static long receive_frame(int fd, int within_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint8_t frame[FRAME_LENGTH_MAX];
	uint32_t number;

	if (poll(&p, 1, within_ms) <= 0 || recv(fd, frame, sizeof(frame), 0) <= 0)
		return -1;
	memcpy(&number, frame + FRAME_HEADER_SIZE + 14, sizeof(number));
	return number;
}

/* The thread publishes after each round. */
static struct delay_counts counts_when(uint64_t frames)
{
	struct delay_counts c;

	for (int i = 0; i < 1000; i++) {
		delay_line_counts(line, &c);
		if (c.frames >= frames)
			break;
		usleep(1000);
	}
	return c;
}

Test(delay_line, holds_each_frame_for_its_delay)
{
	struct delay_counts c;

	open_line((struct delay_shape){.delay_ns = 30 * MS}, 2);
	for (int i = 0; i < 2; i++) {
		uint64_t before = now_ns();

		send_frame(ends[i], 7, FRAME_BYTES);
		cr_expect_eq(receive_frame(ends[i], 2000), 7);
		cr_expect_geq(now_ns() - before, 30 * MS);
		cr_expect_eq(receive_frame(ends[1 - i], 0), -1, "came out of the other direction");
	}
	usleep(20000);
	c = counts_when(2);
	cr_expect_eq(c.frames, 2);
	cr_expect_eq(c.packets, 2);
	cr_expect_eq(c.released, 2);
	cr_expect_eq(c.held_bytes, 0);
	cr_expect_eq(c.bytes, 2 * (FRAME_BYTES - FRAME_HEADER_SIZE));
	cr_expect_geq(c.delay_min_ns, 30 * MS);
	cr_expect_eq(c.delay_buckets[14] + c.delay_buckets[15] + c.delay_buckets[16] +
		     c.delay_buckets[17], 2);
	close_line(2);
}

Test(delay_line, keeps_order_under_jitter)
{
	open_line((struct delay_shape){.delay_ns = 10 * MS, .jitter_ns = 10 * MS, .seed = 1}, 1);
	for (uint32_t i = 0; i < 500; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	for (uint32_t i = 0; i < 500; i++)
		cr_assert_eq(receive_frame(ends[0], 2000), i);
	close_line(1);
}

Test(delay_line, reorders_when_asked)
{
	unsigned overtakes = 0;
	struct delay_counts c;
	long last = -1;

	open_line((struct delay_shape){.delay_ns = 50 * MS, .reorder_ppm = 200000, .seed = 1}, 1);
	for (uint32_t i = 0; i < 500; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	for (uint32_t i = 0; i < 500; i++) {
		long number = receive_frame(ends[0], 2000);

		cr_assert_geq(number, 0);
		overtakes += number < last;
		last = number;
	}
	c = counts_when(500);
	cr_expect_gt(overtakes, 0);
	cr_expect(c.reordered > 50 && c.reordered < 150, "%lu", (unsigned long)c.reordered);
	close_line(1);
}

Test(delay_line, loses_and_doubles_what_it_counts)
{
	struct delay_counts c;
	long got = 0;

	open_line((struct delay_shape){.loss_ppm = 200000, .duplicate_ppm = 100000, .seed = 4}, 1);
	for (uint32_t i = 0; i < 1000; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	while (receive_frame(ends[0], 300) >= 0)
		got++;
	c = counts_when(1000);
	cr_expect_eq(c.frames, 1000);
	cr_expect(c.lost > 150 && c.lost < 250);
	cr_expect(c.duplicated > 50 && c.duplicated < 130);
	cr_expect_eq((uint64_t)got, 1000 - c.lost + c.duplicated);
	cr_expect_eq(c.held_bytes, 0);
	close_line(1);
}

Test(delay_line, drops_and_counts_beyond_its_limit)
{
	/* Room for a hundred. */
	const uint64_t limit = 100 * (FRAME_BYTES + FRAME_OVERHEAD);
	struct delay_counts c;
	long got = 0;

	open_line((struct delay_shape){.delay_ns = 300 * MS, .limit_bytes = limit}, 1);
	for (uint32_t i = 0; i < 150; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	while (receive_frame(ends[0], 1000) == got)
		got++;
	c = counts_when(150);
	cr_expect_eq(got, 100);
	cr_expect_eq(c.overflowed, 50);
	cr_expect_eq(c.held_bytes_peak, limit);
	close_line(1);
}

Test(delay_line, takes_the_only_frame_whatever_its_size)
{
	open_line((struct delay_shape){.delay_ns = MS, .limit_bytes = 4096}, 1);
	send_frame(ends[0], 1, 60000);
	cr_expect_eq(receive_frame(ends[0], 2000), 1);
	close_line(1);
}

Test(delay_line, uses_its_memory_again)
{
	/* 160 MB through a limit of 1 MiB: chunks come back, or this would overflow. */
	struct delay_counts c;

	open_line((struct delay_shape){.delay_ns = 100 * NS_PER_US, .limit_bytes = 1 << 20}, 1);
	for (uint32_t i = 0; i < 8000; i++) {
		send_frame(ends[0], i, 20000);
		cr_assert_eq(receive_frame(ends[0], 2000), i);
	}
	c = counts_when(8000);
	cr_expect_eq(c.overflowed, 0);
	close_line(1);
}

Test(delay_line, opening_up_lets_all_go_in_order)
{
	uint64_t before;

	open_line((struct delay_shape){.delay_ns = 60 * NS_PER_S}, 1);
	for (uint32_t i = 0; i < 100; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	counts_when(100);
	before = now_ns();
	delay_line_open_up(line);
	for (uint32_t i = 0; i < 100; i++)
		cr_assert_eq(receive_frame(ends[0], 2000), i);
	send_frame(ends[0], 100, FRAME_BYTES);
	cr_expect_eq(receive_frame(ends[0], 2000), 100);
	cr_expect_lt(now_ns() - before, 10 * NS_PER_S);
	close_line(1);
}

Test(delay_line, its_end_writes_what_is_held)
{
	open_line((struct delay_shape){.delay_ns = 60 * NS_PER_S}, 1);
	for (uint32_t i = 0; i < 50; i++)
		send_frame(ends[0], i, FRAME_BYTES);
	delay_line_free(line);
	for (uint32_t i = 0; i < 50; i++)
		cr_assert_eq(receive_frame(ends[0], 0), i);
	line = NULL;
	close(ends[0]);
}

Test(delay_line, lives_on_when_its_interface_goes)
{
	open_line((struct delay_shape){.delay_ns = MS}, 2);
	send_frame(ends[0], 1, FRAME_BYTES);
	close(ends[0]);
	usleep(20000);
	send_frame(ends[1], 2, FRAME_BYTES);
	cr_expect_eq(receive_frame(ends[1], 2000), 2);
	delay_line_free(line);
	line = NULL;
	close(ends[1]);
}

Test(delay_line, refuses_too_many_directions_and_closes_them)
{
	_cleanup_err_ struct err *err = NULL;
	int taps[DELAY_LINE_TAPS_MAX + 1];
	struct delay_line *l;

	for (int i = 0; i <= DELAY_LINE_TAPS_MAX; i++)
		taps[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	cr_expect_eq(delay_line_new(&(struct delay_shape){.limit_bytes = LIMIT}, NULL, taps,
		DELAY_LINE_TAPS_MAX + 1, &l, &err), -EINVAL);
	for (int i = 0; i <= DELAY_LINE_TAPS_MAX; i++)
		cr_expect_eq(taps[i], -1);
}

Test(delay_line, quantile_is_an_upper_bound)
{
	uint64_t buckets[DELAY_BUCKETS] = {[0] = 50, [5] = 49, [10] = 1};

	cr_expect_eq(delay_histogram_quantile(buckets, 0.5), 2 * NS_PER_US);
	cr_expect_eq(delay_histogram_quantile(buckets, 0.99), 64 * NS_PER_US);
	cr_expect_eq(delay_histogram_quantile(buckets, 1.0), 2048 * NS_PER_US);
	memset(buckets, 0, sizeof(buckets));
	cr_expect_eq(delay_histogram_quantile(buckets, 0.5), 0);
}

/* By the number of the frame: shaped, passed, dropped, answered. */
static enum frame_verdict judge_by_number(void *data, const uint8_t *frame, size_t length,
	uint8_t *answer, size_t *ret_length)
{
	uint32_t number;

	(void)data;
	memcpy(&number, frame + FRAME_HEADER_SIZE + 14, sizeof(number));
	memcpy(answer, frame, length);
	answer[FRAME_HEADER_SIZE + 14] = 99;
	*ret_length = length;
	return (enum frame_verdict)(number % 4);
}

Test(delay_line, a_filter_decides)
{
	const struct delay_shape shape = {.delay_ns = 100 * MS, .limit_bytes = LIMIT};
	struct delay_filter filter = {.judge = judge_by_number, .answer_lanes = {[1] = 0}};
	_cleanup_err_ struct err *err = NULL;
	struct delay_counts c;
	int taps[2];

	for (unsigned i = 0; i < 2; i++) {
		int pair[2];

		cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
		ends[i] = pair[0];
		taps[i] = pair[1];
	}
	cr_assert_eq(delay_line_new(&shape, &filter, taps, 2, &line, &err), 0, "%s", err_text(err));
	for (uint32_t number = 0; number < 4; number++)
		send_frame(ends[1], number, FRAME_BYTES);
	cr_expect_eq(receive_frame(ends[1], 5000), FRAME_PASS, "past the one that is held");
	cr_expect_eq(receive_frame(ends[0], 5000), 99, "the answer comes out of the other TAP");
	cr_expect_eq(receive_frame(ends[1], 5000), FRAME_SHAPE);
	cr_expect_eq(receive_frame(ends[1], 50), -1, "one is dropped");
	c = counts_when(4);
	cr_expect_eq(c.frames, 4);
	cr_expect_geq(c.delay_min_ns, 100 * MS);
	send_frame(ends[1], FRAME_DROP, FRAME_BYTES);
	delay_line_open_up(line);
	usleep(100000);
	send_frame(ends[1], FRAME_DROP, FRAME_BYTES);
	cr_expect_eq(receive_frame(ends[1], 5000), FRAME_DROP, "opened up, all passes");
	close_line(2);
}
