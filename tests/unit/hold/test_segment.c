#include <criterion/criterion.h>
#include <linux/virtio_net.h>
#include <string.h>
#include "hold/frame.h"
#include "hold/segment.h"

#define V4_HEADERS (14 + 20 + 32)
#define MSS 1448

static uint8_t frame[FRAME_LENGTH_MAX];

static void put16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static unsigned sum16(const uint8_t *p, size_t n, unsigned sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i % 2 ? p[i] : (unsigned)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* TCP with 12 bytes of options; the checksum field holds the pseudo header's sum, as in a frame
 * whose checksum is left to the hardware. Returns its length. */
static size_t make_tcp(int family, size_t payload, unsigned gso_size, bool vlan)
{
	size_t link = vlan ? 18 : 14, ip_length = family == 4 ? 20 : 40, tcp_length = 32 + payload;
	uint8_t *ip = frame + FRAME_HEADER_SIZE + link, *tcp = ip + ip_length;
	struct virtio_net_hdr h = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_NONE,
		.csum_start = (uint16_t)(link + ip_length),
		.csum_offset = 16,
	};

	if (gso_size) {
		h.gso_type = family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
		h.gso_size = (uint16_t)gso_size;
	}
	memset(frame, 0, sizeof(frame));
	memcpy(frame, &h, sizeof(h));
	if (vlan)
		put16(ip - 6, 0x8100);
	put16(ip - 2, family == 4 ? 0x0800 : 0x86dd);
	for (size_t i = 0; i < (family == 4 ? 8 : 32); i++)
		ip[(family == 4 ? 12 : 8) + i] = (uint8_t)(i * 7 + 1);
	if (family == 4) {
		ip[0] = 0x45;
		put16(ip + 2, (unsigned)(20 + tcp_length));
		put16(ip + 4, 0xfffe);
		ip[9] = 6;
		put16(ip + 10, ~sum16(ip, 20, 0));
	} else {
		ip[0] = 0x60;
		put16(ip + 4, (unsigned)tcp_length);
		ip[6] = 6;
	}
	memcpy(tcp + 4, "\xff\xff\xff\x00", 4);
	tcp[12] = 8 << 4;
	tcp[13] = 0x80 | 0x10 | 0x08 | 0x01;
	for (size_t i = 0; i < payload; i++)
		tcp[32 + i] = (uint8_t)(i * 31 + i / 256);
	put16(tcp + 16, sum16(ip + (family == 4 ? 12 : 8), family == 4 ? 8 : 32,
		(unsigned)(6 + tcp_length)));
	return FRAME_HEADER_SIZE + link + ip_length + tcp_length;
}

/* Is its TCP checksum right? Also with payload changed, never. */
static bool tcp_is_right(const uint8_t *f, size_t length, size_t link)
{
	const uint8_t *ip = f + FRAME_HEADER_SIZE + link;
	bool v4 = ip[0] >> 4 == 4;
	const uint8_t *tcp = ip + (v4 ? 20 : 40);
	size_t n = (size_t)(f + length - tcp);
	unsigned sum = sum16(ip + (v4 ? 12 : 8), v4 ? 8 : 32, (unsigned)(6 + n));

	return sum16(tcp, n, sum) == 0xffff;
}

Test(segment, counts_packets_on_the_wire)
{
	struct segments s;
	size_t length = make_tcp(4, 10 * MSS + 1, MSS, false);

	segments_of(frame, length, &s);
	cr_expect_eq(s.count, 11);
	cr_expect_eq(s.headers, FRAME_HEADER_SIZE + V4_HEADERS);
	cr_expect_eq(s.wire_bytes, 11 * V4_HEADERS + 10 * MSS + 1);
	length = make_tcp(4, 10 * MSS, MSS, false);
	segments_of(frame, length, &s);
	cr_expect_eq(s.count, 10);
	length = make_tcp(4, 100, 0, false);
	segments_of(frame, length, &s);
	cr_expect_eq(s.count, 1);
	cr_expect_eq(s.wire_bytes, V4_HEADERS + 100);
}

static void check_split(int family, bool vlan)
{
	size_t payload = 5 * MSS + 77, length = make_tcp(family, payload, MSS, vlan), at = 0;
	size_t link = vlan ? 18 : 14, ip_length = family == 4 ? 20 : 40;
	static uint8_t part[FRAME_LENGTH_MAX];
	struct segments s;

	segments_of(frame, length, &s);
	cr_assert_eq(s.count, 6);
	for (size_t i = 0; i < s.count; i++) {
		ssize_t n = segment_copy(frame, length, &s, i, part, sizeof(part));
		const uint8_t *ip = part + FRAME_HEADER_SIZE + link, *tcp = ip + ip_length;
		size_t data = (size_t)n - s.headers;
		uint8_t flags = 0x10;

		cr_assert_gt(n, 0);
		cr_expect_eq(part[0], 0, "a flag vouches for the checksum");
		cr_expect(tcp_is_right(part, (size_t)n, link), "checksum of packet %zu", i);
		if (family == 4) {
			cr_expect_eq(sum16(ip, 20, 0), 0xffff);
			cr_expect_eq(get16(ip + 2), (size_t)(part + n - ip));
			cr_expect_eq(get16(ip + 4), (0xfffe + i) & 0xffff);
		} else {
			cr_expect_eq(get16(ip + 4), (size_t)(part + n - ip) - 40);
		}
		cr_expect_eq((get16(tcp + 4) << 16 | get16(tcp + 6)), (uint32_t)(0xffffff00 + at));
		flags |= i == 0 ? 0x80 : 0;
		flags |= i + 1 == s.count ? 0x09 : 0;
		cr_expect_eq(tcp[13], flags);
		cr_expect_arr_eq(tcp + 32, frame + s.headers + at, data);
		at += data;
	}
	cr_expect_eq(at, payload);
}

Test(segment, splits_ipv4)
{
	check_split(4, false);
}

Test(segment, splits_ipv6)
{
	check_split(6, false);
}

Test(segment, splits_under_a_vlan_tag)
{
	check_split(4, true);
	check_split(6, true);
}

Test(segment, refuses_too_small_a_buffer)
{
	size_t length = make_tcp(4, 3 * MSS, MSS, false);
	static uint8_t part[100];
	struct segments s;

	segments_of(frame, length, &s);
	cr_expect_lt(segment_copy(frame, length, &s, 0, part, sizeof(part)), 0);
}

Test(segment, completes_a_partial_checksum)
{
	for (int family = 4; family <= 6; family += 2) {
		size_t length = make_tcp(family, 333, 0, false);

		cr_expect_not(tcp_is_right(frame, length, 14));
		frame_complete_checksum(frame, length);
		cr_expect(tcp_is_right(frame, length, 14));
		cr_expect_eq(frame[0], 0);
	}
}

/* Else the kernel would complete the checksum over the bit that was flipped. */
Test(segment, a_frame_of_one_segment_is_completed_too)
{
	for (int family = 4; family <= 6; family += 2) {
		size_t length = make_tcp(family, MSS, MSS, false);

		cr_assert_neq(frame[1], 0, "no GSO packet");
		cr_expect(frame_complete_checksum(frame, length));
		cr_expect(tcp_is_right(frame, length, 14));
		cr_expect_eq(frame[0], 0);
		cr_expect_eq(frame[1], 0);
	}
}

Test(segment, what_is_more_than_one_packet_is_not_completed)
{
	static uint8_t before[FRAME_LENGTH_MAX];
	size_t length = make_tcp(4, MSS + 1, MSS, false);

	memcpy(before, frame, length);
	cr_expect_not(frame_complete_checksum(frame, length));
	cr_expect_arr_eq(before, frame, length);
	length = make_tcp(4, 333, 0, false);
	memset(frame + 6, 0xff, 2);	/* csum_start: beyond the frame */
	cr_expect_not(frame_complete_checksum(frame, length));
}

Test(segment, a_flipped_bit_is_seen)
{
	for (uint64_t pick = 0; pick < 20000; pick += 7) {
		size_t length = make_tcp(4, 333, 0, false);
		uint8_t *ip = frame + FRAME_HEADER_SIZE + 14;

		frame_complete_checksum(frame, length);
		cr_assert(frame_flip_bit(frame, length, pick));
		cr_assert(sum16(ip, 20, 0) != 0xffff || !tcp_is_right(frame, length, 14),
			"bit %lu went unseen", (unsigned long)pick);
	}
}

/* Bytes of the payload from..to that are no longer as make_tcp() made them. */
static size_t changed(const uint8_t *payload, size_t from, size_t to)
{
	size_t n = 0;

	for (size_t i = from; i < to; i++)
		n += payload[i] != (uint8_t)(i * 31 + i / 256);
	return n;
}

Test(segment, an_altered_payload_goes_unseen)
{
	const struct segments one = {.count = 1};

	for (uint64_t pick = 0; pick < 300000; pick += 97) {
		int family = pick % 2 ? 4 : 6;
		size_t length = make_tcp(family, 333, 0, false);
		uint8_t *payload = frame + FRAME_HEADER_SIZE + 14 + (family == 4 ? 20 : 40) + 32;

		frame_complete_checksum(frame, length);
		/* Padding of a short Ethernet frame is no payload. */
		cr_assert(frame_alter_payload(frame, length + 5, &one, 0, pick));
		cr_assert(tcp_is_right(frame, length, 14), "pick %lu", (unsigned long)pick);
		cr_assert_eq(changed(payload, 0, 333), 1);
		frame[FRAME_HEADER_SIZE + 14 + (family == 4 ? 20 : 40) + 17] ^= 1;
		cr_assert(frame_alter_payload(frame, length, &one, 0, pick + 256));
		cr_assert_not(tcp_is_right(frame, length, 14), "a wrong checksum was made right");
	}
}

Test(segment, an_altered_payload_keeps_a_partial_checksum)
{
	size_t length = make_tcp(4, 5 * MSS + 7, MSS, false);
	uint8_t *payload = frame + FRAME_HEADER_SIZE + V4_HEADERS;
	unsigned before = get16(payload - 32 + 16);
	struct segments s;

	segments_of(frame, length, &s);
	cr_assert_eq(s.count, 6);
	for (size_t i = 0; i < s.count; i++) {
		size_t to = i == 5 ? 5 * MSS + 7 : (i + 1) * MSS;

		cr_expect(frame_alter_payload(frame, length, &s, i, i * 7919 * 256));
		cr_expect_eq(changed(payload, i * MSS, to), 1, "packet %zu", i);
		cr_expect_eq(changed(payload, to, 5 * MSS + 7), 0, "packet %zu", i);
	}
	cr_expect_eq(get16(payload - 32 + 16), before);
	cr_expect_eq(frame[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

Test(segment, nothing_to_alter)
{
	const struct segments one = {.count = 1};
	size_t length = make_tcp(4, 0, 0, false);

	cr_expect_not(frame_alter_payload(frame, length, &one, 0, 1), "no payload");
	length = make_tcp(4, 100, 0, false);
	frame[FRAME_HEADER_SIZE + 14 + 9] = 17;
	cr_expect_not(frame_alter_payload(frame, length, &one, 0, 1), "no TCP");
	length = make_tcp(4, 100, 0, false);
	frame[FRAME_HEADER_SIZE + 14 + 6] = 0x20;
	cr_expect_not(frame_alter_payload(frame, length, &one, 0, 1), "a fragment");
}

/* No frame, however broken, is read or split beyond its end (run under the sanitizers). */
Test(segment, takes_anything)
{
	uint64_t state = 3;
	size_t splits = 0;

	for (int round = 0; round < 50000; round++) {
		size_t whole = make_tcp(round % 2 ? 4 : 6, 3000, 100, round % 3 == 0);
		size_t length, changes = 1 + (size_t)round % 4;
		struct segments s;
		uint8_t *copy;

		for (size_t i = 0; i < changes; i++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			frame[(state >> 33) % 100] = (uint8_t)(state >> 25);
		}
		length = FRAME_HEADER_SIZE + 14 + (state >> 40) % (whole - FRAME_HEADER_SIZE - 14);
		copy = malloc(length);
		memcpy(copy, frame, length);
		segments_of(copy, length, &s);
		cr_assert_geq(s.count, 1);
		if (s.count > 1) {
			static uint8_t part[FRAME_LENGTH_MAX];

			splits++;
			for (size_t i = 0; i < s.count; i++)
				cr_assert_gt(segment_copy(copy, length, &s, i, part, sizeof(part)), 0);
		}
		frame_complete_checksum(copy, length);
		frame_flip_bit(copy, length, state);
		free(copy);
	}
	cr_expect_gt(splits, 1000);
}
