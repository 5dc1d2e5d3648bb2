#include <criterion/criterion.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "core/err.h"
#include "fault/dns_query.h"
#include "hold/frame.h"

static uint8_t frame[FRAME_LENGTH_MAX];
static uint8_t answer[DNS_ANSWER_MAX];

/* "\3www\7example\3com" of the text, and what follows. */
static size_t make_query(uint8_t *m, const char *name)
{
	size_t at = 12;

	memcpy(m, "\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01", 12);
	while (*name) {
		size_t n = strcspn(name, ".");

		m[at++] = (uint8_t)n;
		memcpy(m + at, name, n);
		at += n;
		name += n + (name[n] == '.');
	}
	memcpy(m + at, "\0\0\x1c\0\1", 5);
	at += 5;
	memcpy(m + at, "\0\0\x29\x04\xb0\0\0\0\0\0\0", 11);
	return at + 11;
}

static size_t make_frame(bool v4, bool vlan, uint8_t protocol, const uint8_t *body, size_t n)
{
	size_t l4_header = protocol == IPPROTO_TCP ? 20 : 8;
	uint8_t *at = frame + FRAME_HEADER_SIZE, *ip, *l4;

	memset(frame, 0, sizeof(frame));
	memcpy(at, "\xaa\1\2\3\4\5\xbb\1\2\3\4\5", 12);
	at += 12;
	if (vlan) {
		memcpy(at, "\x81\0\0\7", 4);
		at += 4;
	}
	packet_put16(at, v4 ? 0x0800 : 0x86dd);
	ip = at + 2;
	l4 = ip + (v4 ? 20 : 40);
	ip[0] = v4 ? 0x45 : 0x60;
	packet_put16(ip + (v4 ? 2 : 4), (v4 ? 20 : 0) + l4_header + n);
	ip[v4 ? 9 : 6] = protocol;
	for (size_t i = 0; i < (v4 ? 8 : 32); i++)
		ip[(v4 ? 12 : 8) + i] = (uint8_t)(i + 1);
	packet_put16(l4, 40000);
	packet_put16(l4 + 2, 53);
	if (protocol == IPPROTO_TCP)
		l4[12] = 5 << 4;
	else
		packet_put16(l4 + 4, 8 + n);
	memcpy(l4 + l4_header, body, n);
	return (size_t)(l4 + l4_header + n - frame);
}

static struct dns_suffix suffix(const char *text)
{
	struct dns_suffix s = {0};
	_cleanup_err_ struct err *err = NULL;

	cr_assert_eq(dns_suffix_parse(text, &s, &err), 0, "%s", err_text(err));
	return s;
}

static bool matches(const char *name, const char *end)
{
	struct dns_suffix s = suffix(end);
	uint8_t m[512];
	struct dns_question q;

	cr_assert(dns_query_parse(m, make_query(m, name), &q));
	return dns_suffix_matches(&s, &q);
}

Test(dns_query, suffixes)
{
	cr_expect(matches("db.example.com", "example.com"));
	cr_expect(matches("example.com", "example.com"));
	cr_expect(matches("eXample.COM", "exaMPLE.com."));
	cr_expect(matches("a.b.c.db.example.com", ".db.example.com"));
	cr_expect_not(matches("notexample.com", "example.com"));
	cr_expect_not(matches("com", "example.com"));
	cr_expect_not(matches("example.com.org", "example.com"));
	cr_expect_not(matches("", "com"));
	/* A dot within a label is no border. */
	uint8_t m[64] = "\0\0\1\0\0\1\0\0\0\0\0\0\x0d" "a.example.com\0\0\1\0\1";
	struct dns_suffix s = suffix("example.com");
	struct dns_question q;

	cr_assert(dns_query_parse(m, 12 + 15 + 4, &q));
	cr_expect_not(dns_suffix_matches(&s, &q));
}

Test(dns_query, names_that_are_none)
{
	static const char *const bad[] = {"", ".", "a..b", "*.com", "a b", "a.com..", "\xc3\xa4.com",
		"aaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaaaaaaaabbbbbbbbbbaaaa.com"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		_cleanup_err_ struct err *err = NULL;
		struct dns_suffix s;

		cr_expect_lt(dns_suffix_parse(bad[i], &s, &err), 0, "'%s'", bad[i]);
		cr_expect(err != NULL && strstr(err_text(err), "names:"));
	}
}

Test(dns_query, what_is_no_query)
{
	uint8_t m[512];
	size_t n = make_query(m, "www.example.com");
	struct dns_question q;

	cr_assert(dns_query_parse(m, n, &q));
	cr_expect_eq(q.name_length, 17);
	cr_expect_eq(q.length, 21);
	for (size_t cut = 0; cut < 12 + 21; cut++)
		cr_expect_not(dns_query_parse(m, cut, &q), "cut at %zu", cut);
	cr_expect(dns_query_parse(m, 12 + 21, &q));
	m[2] |= 0x80;
	cr_expect_not(dns_query_parse(m, n, &q), "a response");
	m[2] = 0x10;
	cr_expect_not(dns_query_parse(m, n, &q), "another operation");
	m[2] = 0;
	m[5] = 2;
	cr_expect_not(dns_query_parse(m, n, &q), "two questions");
	m[5] = 1;
	m[12] = 0xc0;
	cr_expect_not(dns_query_parse(m, n, &q), "a compressed name");
}

Test(dns_query, the_answer_is_right)
{
	for (int way = 0; way < 4; way++) {
		bool v4 = way & 1, vlan = way & 2;
		size_t link = vlan ? 18 : 14, ip_length = v4 ? 20 : 40, n, length;
		const uint8_t *ip, *udp, *message;
		struct dns_question q;
		struct packet p, back;
		uint8_t m[512];

		n = make_query(m, "www.example.com");
		length = make_frame(v4, vlan, IPPROTO_UDP, m, n);
		cr_assert(packet_parse(frame, length, &p));
		cr_assert_eq(p.payload, FRAME_HEADER_SIZE + link + ip_length + 8);
		cr_assert(dns_query_parse(frame + p.payload, p.end - p.payload, &q));
		n = dns_answer(frame, &p, &q, DNS_RCODE_NXDOMAIN, answer);
		cr_assert(packet_parse(answer, n, &back));
		cr_expect_eq(back.end, n);
		ip = answer + back.ip;
		udp = answer + back.l4;
		message = answer + back.payload;
		cr_expect_arr_eq(answer + FRAME_HEADER_SIZE, "\xbb\1\2\3\4\5\xaa\1\2\3\4\5", 12);
		cr_expect_eq(packet_get16(udp), 53);
		cr_expect_eq(packet_get16(udp + 2), 40000);
		cr_expect_eq(ip[v4 ? 15 : 23], v4 ? 8 : 32);
		cr_expect_eq(ip[v4 ? 19 : 39], v4 ? 4 : 16);
		if (v4)
			cr_expect_eq(checksum_fold(checksum_add(ip, 20, 0)), 0);
		cr_expect_eq(checksum_of_l4(ip, IPPROTO_UDP, udp, n - back.l4), 0);
		cr_expect_arr_eq(message, "\x12\x34\x81\x83\0\1\0\0\0\0\0\0", 12);
		cr_expect_arr_eq(message + 12, m + 12, 21);
		cr_expect_eq(n - back.payload, 12 + 21);
	}
}

Test(dns_query, the_reset_is_right)
{
	for (int v4 = 0; v4 < 2; v4++) {
		size_t length = make_frame(v4, false, IPPROTO_TCP, (const uint8_t *)"hello", 5), n;
		struct packet p, back;
		const uint8_t *tcp;

		cr_assert(packet_parse(frame, length, &p));
		packet_put32(frame + p.l4 + 4, 0xfffffffe);
		packet_put32(frame + p.l4 + 8, 77);
		frame[p.l4 + 13] = 0x18;
		n = dns_reset(frame, &p, answer);
		cr_assert(packet_parse(answer, n, &back));
		tcp = answer + back.l4;
		cr_expect_eq(packet_get32(tcp + 4), 77);
		cr_expect_eq(packet_get32(tcp + 8), 3);
		cr_expect_eq(tcp[13], 0x14);
		cr_expect_eq(checksum_of_l4(answer + back.ip, IPPROTO_TCP, tcp, 20), 0);
		frame[p.l4 + 13] = 0x02;
		dns_reset(frame, &p, answer);
		cr_expect_eq(packet_get32(tcp + 4), 0, "nothing was acknowledged");
		cr_expect_eq(packet_get32(tcp + 8), 4, "SYN counts as one");
	}
}

/* Nothing is read beyond its end (run under the sanitizers). */
Test(dns_query, takes_anything)
{
	uint64_t state = 9;
	size_t parsed = 0;

	for (int round = 0; round < 200000; round++) {
		uint8_t m[512], *copy;
		size_t n = make_query(m, "a.very.long.example.com"), length;
		struct dns_suffix s = suffix("example.com");
		struct dns_question q;
		struct packet p;

		length = make_frame(round % 2, round % 3 == 0, round % 5 ? 17 : 6, m, n);
		for (int k = 0; k < 4; k++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			frame[FRAME_HEADER_SIZE + (state >> 33) % (length - FRAME_HEADER_SIZE)] =
				(uint8_t)(state >> 20);
		}
		if (round % 4 == 0)
			length = FRAME_HEADER_SIZE + 14 +
				 (state >> 40) % (length - FRAME_HEADER_SIZE - 13);
		copy = malloc(length);
		memcpy(copy, frame, length);
		if (packet_parse(copy, length, &p)) {
			cr_assert_leq(p.end, length);
			if (dns_query_parse(copy + p.payload, p.end - p.payload, &q)) {
				dns_suffix_matches(&s, &q);
				cr_assert_leq(dns_answer(copy, &p, &q, DNS_RCODE_SERVFAIL, answer),
					DNS_ANSWER_MAX);
				parsed++;
			}
			if (p.protocol == IPPROTO_TCP)
				dns_reset(copy, &p, answer);
		}
		free(copy);
	}
	cr_expect_gt(parsed, 1000);
}
