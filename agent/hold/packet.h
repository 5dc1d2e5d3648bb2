/*
 * Where the parts of a TCP or UDP packet are in a frame (hold/frame.h), and the Internet checksum.
 * Frames are untrusted: every offset is checked. Headers: RFC 791, 8200, 9293, 768; checksum: RFC 1071,
 * updated as in RFC 1624.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_IPV4_MIN	   20U
#define PACKET_IPV6_LENGTH 40U
#define PACKET_TCP_MIN	   20U
#define PACKET_UDP_LENGTH  8U

/* Offsets in the frame, virtio header included. */
struct packet {
	size_t ip, l4, payload, end;	/* payload == end: none */
	uint8_t protocol;		/* IPPROTO_TCP or IPPROTO_UDP */
	bool v4;
};

/* false: no TCP or UDP, a fragment, IPv6 extension headers, or not whole within the frame. */
bool packet_parse(const uint8_t *frame, size_t length, struct packet *ret);

static inline uint16_t packet_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void packet_put16(uint8_t *p, size_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static inline uint32_t packet_get32(const uint8_t *p)
{
	return (uint32_t)packet_get16(p) << 16 | packet_get16(p + 2);
}

static inline void packet_put32(uint8_t *p, uint32_t value)
{
	packet_put16(p, value >> 16);
	packet_put16(p + 2, value & 0xffff);
}

/* Adds the words of length bytes to a sum that is not folded yet. */
uint64_t checksum_add(const uint8_t *p, size_t length, uint64_t sum);
uint16_t checksum_fold(uint64_t sum);
/* Of a TCP segment or UDP datagram whose own field is 0. ip: its IPv4 or IPv6 header. */
uint16_t checksum_of_l4(const uint8_t *ip, uint8_t protocol, const uint8_t *l4, size_t length);
