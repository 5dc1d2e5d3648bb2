#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "hold/frame.h"
#include "hold/packet.h"
#include "hold/segment.h"

#define VLAN_TAG 4U
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

static uint16_t ethertype(const uint8_t *frame, size_t link_header)
{
	return packet_get16(frame + FRAME_HEADER_SIZE + link_header - 2);
}

size_t frame_link_header(const uint8_t *frame, size_t length)
{
	const uint8_t *packet = frame + FRAME_HEADER_SIZE;
	size_t room = length - FRAME_HEADER_SIZE, at = ETH_HLEN;

	if (room < ETH_HLEN)
		return room;
	for (int tags = 0; tags < 2 && at + VLAN_TAG <= room; tags++) {
		uint16_t type = packet_get16(packet + at - 2);

		if (type != ETH_P_8021Q && type != ETH_P_8021AD)
			break;
		at += VLAN_TAG;
	}
	return at;
}

/* Where TCP's payload begins in a GSO frame, header included; 0 if it is none that we can split. */
static size_t gso_payload(const uint8_t *frame, size_t length, const struct virtio_net_hdr *h)
{
	size_t link = frame_link_header(frame, length), ip = FRAME_HEADER_SIZE + link;
	size_t tcp = FRAME_HEADER_SIZE + h->csum_start, payload;
	int type = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	bool v4 = type == VIRTIO_NET_HDR_GSO_TCPV4;

	if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || !h->gso_size || h->csum_offset != 16)
		return 0;
	if (!v4 && type != VIRTIO_NET_HDR_GSO_TCPV6)
		return 0;
	if (ethertype(frame, link) != (v4 ? ETH_P_IP : ETH_P_IPV6))
		return 0;
	if (tcp < ip + (v4 ? PACKET_IPV4_MIN : PACKET_IPV6_LENGTH) || tcp + PACKET_TCP_MIN > length)
		return 0;
	if (frame[ip] >> 4 != (v4 ? 4 : 6) || (v4 && ip + (frame[ip] & 15) * 4U != tcp))
		return 0;
	payload = tcp + (size_t)(frame[tcp + 12] >> 4) * 4;
	return payload >= tcp + PACKET_TCP_MIN && payload < length ? payload : 0;
}

void segments_of(const uint8_t *frame, size_t length, struct segments *ret)
{
	struct virtio_net_hdr h;
	size_t headers;

	*ret = (struct segments){.count = 1, .wire_bytes = length - FRAME_HEADER_SIZE};
	memcpy(&h, frame, sizeof(h));
	if (h.gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return;
	headers = gso_payload(frame, length, &h);
	if (!headers || length - headers <= h.gso_size)
		return;
	ret->headers = headers;
	ret->payload = h.gso_size;
	ret->count = (length - headers + h.gso_size - 1) / h.gso_size;
	ret->wire_bytes += (ret->count - 1) * (headers - FRAME_HEADER_SIZE);
}

static void tcp_checksum(uint8_t *ip, uint8_t *tcp, size_t length)
{
	packet_put16(tcp + 16, 0);
	packet_put16(tcp + 16, checksum_of_l4(ip, IPPROTO_TCP, tcp, length));
}

ssize_t segment_copy(const uint8_t *frame, size_t length, const struct segments *s, size_t i,
	uint8_t *ret, size_t room)
{
	size_t from = s->headers + i * s->payload;
	size_t part = length - from < s->payload ? length - from : s->payload;
	size_t total = s->headers + part;
	uint8_t *ip = ret + FRAME_HEADER_SIZE + frame_link_header(frame, length), *tcp;
	struct virtio_net_hdr h;

	if (total > room)
		return -EMSGSIZE;
	memcpy(&h, frame, sizeof(h));
	memcpy(ret, frame, s->headers);
	memcpy(ret + s->headers, frame + from, part);
	memset(ret, 0, FRAME_HEADER_SIZE);
	tcp = ret + FRAME_HEADER_SIZE + h.csum_start;
	if (ip[0] >> 4 == 4) {
		packet_put16(ip + 2, (size_t)(ret + total - ip));
		packet_put16(ip + 4, packet_get16(ip + 4) + i);
		packet_put16(ip + 10, 0);
		packet_put16(ip + 10, checksum_fold(checksum_add(ip, (size_t)(tcp - ip), 0)));
	} else {
		packet_put16(ip + 4, (size_t)(ret + total - ip) - PACKET_IPV6_LENGTH);
	}
	packet_put32(tcp + 4, packet_get32(tcp + 4) + (uint32_t)(i * s->payload));
	if (i + 1 < s->count)
		tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (i > 0)
		tcp[13] &= (uint8_t)~TCP_CWR;
	tcp_checksum(ip, tcp, (size_t)(ret + total - tcp));
	return (ssize_t)total;
}

/* A GSO packet of a single segment is one on the wire as it stands. */
static bool is_one_packet(const uint8_t *frame, size_t length, const struct virtio_net_hdr *h)
{
	size_t payload;

	if (h->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	payload = gso_payload(frame, length, h);
	return payload && length - payload <= h->gso_size;
}

bool frame_complete_checksum(uint8_t *frame, size_t length)
{
	struct virtio_net_hdr h;
	size_t start, field;
	uint16_t sum;

	memcpy(&h, frame, sizeof(h));
	if (!is_one_packet(frame, length, &h))
		return false;
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		start = FRAME_HEADER_SIZE + h.csum_start;
		field = start + h.csum_offset;
		if (field + 2 > length)
			return false;
		/* The field holds the pseudo header's sum: it is summed along. */
		sum = checksum_fold(checksum_add(frame + start, length - start, 0));
		/* UDP: 0 would say "no checksum" (RFC 768). */
		packet_put16(frame + field, sum || h.csum_offset != 6 ? sum : 0xffff);
	}
	memset(frame, 0, FRAME_HEADER_SIZE);
	return true;
}

bool frame_flip_bit(uint8_t *frame, size_t length, uint64_t pick)
{
	size_t from = FRAME_HEADER_SIZE + frame_link_header(frame, length);
	uint64_t bit;

	if (from >= length)
		return false;
	bit = pick % ((length - from) * 8);
	frame[from + bit / 8] ^= (uint8_t)(1U << bit % 8);
	return true;
}

/* RFC 1624, equation 3, for one byte; a sum left to the hardware is made of what is there then. */
static void change_byte(uint8_t *frame, const struct packet *p, size_t at, uint8_t value)
{
	unsigned shift = (at - p->l4) % 2 ? 0 : 8;
	uint8_t *field = frame + p->l4 + 16;
	struct virtio_net_hdr h;

	memcpy(&h, frame, sizeof(h));
	if (!(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
		uint64_t sum = (uint16_t)~packet_get16(field);

		sum += (uint16_t)~((unsigned)frame[at] << shift);
		sum += (unsigned)value << shift;
		packet_put16(field, checksum_fold(sum));
	}
	frame[at] = value;
}

bool frame_alter_payload(uint8_t *frame, size_t length, const struct segments *s, size_t i,
	uint64_t pick)
{
	size_t from, to, at;
	struct packet p;
	uint8_t mask = (uint8_t)(pick & 0xff);

	if (!packet_parse(frame, length, &p) || p.protocol != IPPROTO_TCP)
		return false;
	from = p.payload;
	to = p.end;
	if (s->count > 1) {
		from = s->headers + i * s->payload;
		to = to - from < s->payload ? to : from + s->payload;
	}
	if (from >= to || from < p.payload || to > p.end)
		return false;
	at = from + (pick >> 8) % (to - from);
	change_byte(frame, &p, at, frame[at] ^ (mask ? mask : 0xff));
	return true;
}
