#include "fault/dns_query.h"

#include <netinet/in.h>
#include <string.h>
#include "hold/frame.h"

#define HEADER 12U
#define QR 0x80		/* of the flags' first byte: a response */
#define OPCODE 0x78
#define RD 0x01
#define RA 0x80		/* of the second byte */
#define TTL 64

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* Ethernet with two VLAN tags, IPv6, UDP, header, question. */
_Static_assert(FRAME_HEADER_SIZE + 22 + PACKET_IPV6_LENGTH + PACKET_UDP_LENGTH + HEADER +
	DNS_NAME_MAX + 4 <= DNS_ANSWER_MAX, "an answer must fit");

bool dns_query_parse(const uint8_t *message, size_t length, struct dns_question *ret)
{
	size_t at = HEADER;

	if (length < HEADER || message[2] & (QR | OPCODE) || packet_get16(message + 4) != 1)
		return false;
	/* Compression cannot be in the first name of a message: any length above 63 is refused. */
	while (at < length && message[at] != 0) {
		if (message[at] > DNS_LABEL_MAX)
			return false;
		at += message[at] + 1U;
	}
	at++;
	if (at + 4 > length || at - HEADER > DNS_NAME_MAX)
		return false;
	*ret = (struct dns_question){
		.message = message,
		.name = message + HEADER,
		.name_length = at - HEADER,
		.length = at - HEADER + 4,
	};
	return true;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* The lengths of labels are below 'A': they may be compared as the letters are. */
bool dns_suffix_matches(const struct dns_suffix *s, const struct dns_question *q)
{
	size_t at = 0;

	while (q->name_length - at > s->length && q->name[at])
		at += q->name[at] + 1U;
	if (q->name_length - at != s->length)
		return false;
	for (size_t i = 0; i < s->length; i++)
		if (lower(q->name[at + i]) != s->wire[i])
			return false;
	return true;
}

/* Everything up to the ports, sender and receiver changed places. Returns the place of what follows
 * the IP header, of l4_length bytes. */
static uint8_t *turn(const uint8_t *frame, const struct packet *p, size_t l4_length, uint8_t *ret)
{
	size_t header = p->v4 ? PACKET_IPV4_MIN : PACKET_IPV6_LENGTH;
	const uint8_t *from = frame + p->ip, *link = frame + FRAME_HEADER_SIZE;
	uint8_t *ip = ret + p->ip, *l4 = ip + header;

	memset(ret, 0, p->ip + header + l4_length);
	memcpy(ret + FRAME_HEADER_SIZE, link, p->ip - FRAME_HEADER_SIZE);
	memcpy(ret + FRAME_HEADER_SIZE, link + 6, 6);
	memcpy(ret + FRAME_HEADER_SIZE + 6, link, 6);
	if (p->v4) {
		ip[0] = 0x45;
		packet_put16(ip + 2, header + l4_length);
		packet_put16(ip + 6, 0x4000);
		ip[8] = TTL;
		ip[9] = p->protocol;
		memcpy(ip + 12, from + 16, 4);
		memcpy(ip + 16, from + 12, 4);
		packet_put16(ip + 10, checksum_fold(checksum_add(ip, header, 0)));
	} else {
		ip[0] = 0x60;
		packet_put16(ip + 4, l4_length);
		ip[6] = p->protocol;
		ip[7] = TTL;
		memcpy(ip + 8, from + 24, 16);
		memcpy(ip + 24, from + 8, 16);
	}
	memcpy(l4, frame + p->l4 + 2, 2);
	memcpy(l4 + 2, frame + p->l4, 2);
	return l4;
}

size_t dns_answer(const uint8_t *frame, const struct packet *p, const struct dns_question *q,
	enum dns_rcode rcode, uint8_t *ret)
{
	size_t length = PACKET_UDP_LENGTH + HEADER + q->length;
	uint8_t *udp = turn(frame, p, length, ret), *message = udp + PACKET_UDP_LENGTH;
	uint16_t sum;

	packet_put16(udp + 4, length);
	memcpy(message, q->message, 2);
	message[2] = QR | (q->message[2] & RD);
	message[3] = (uint8_t)(RA | rcode);
	packet_put16(message + 4, 1);
	memcpy(message + HEADER, q->name, q->length);
	sum = checksum_of_l4(ret + p->ip, IPPROTO_UDP, udp, length);
	/* 0 would say "no checksum" (RFC 768). */
	packet_put16(udp + 6, sum ? sum : 0xffff);
	return (size_t)(udp + length - ret);
}

size_t dns_reset(const uint8_t *frame, const struct packet *p, uint8_t *ret)
{
	const uint8_t *from = frame + p->l4;
	uint8_t *tcp = turn(frame, p, PACKET_TCP_MIN, ret);
	uint32_t length = (uint32_t)(p->end - p->payload);

	length += !!(from[13] & TCP_SYN) + !!(from[13] & TCP_FIN);
	if (from[13] & TCP_ACK)
		memcpy(tcp + 4, from + 8, 4);
	packet_put32(tcp + 8, packet_get32(from + 4) + length);
	tcp[12] = 5 << 4;
	tcp[13] = TCP_RST | TCP_ACK;
	packet_put16(tcp + 16, checksum_of_l4(ret + p->ip, IPPROTO_TCP, tcp, PACKET_TCP_MIN));
	return (size_t)(tcp + PACKET_TCP_MIN - ret);
}
