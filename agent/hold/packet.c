#include <linux/if_ether.h>
#include <netinet/in.h>
#include "hold/frame.h"
#include "hold/packet.h"
#include "hold/segment.h"

#define FRAGMENT 0x3fff		/* more fragments, or an offset */

uint64_t checksum_add(const uint8_t *p, size_t length, uint64_t sum)
{
	for (; length > 1; p += 2, length -= 2)
		sum += packet_get16(p);
	return length ? sum + ((uint64_t)p[0] << 8) : sum;
}

uint16_t checksum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

uint16_t checksum_of_l4(const uint8_t *ip, uint8_t protocol, const uint8_t *l4, size_t length)
{
	bool v4 = ip[0] >> 4 == 4;
	uint64_t sum = protocol + (uint64_t)length;

	sum = checksum_add(ip + (v4 ? 12 : 8), v4 ? 8 : 32, sum);
	return checksum_fold(checksum_add(l4, length, sum));
}

/* A length of 0 is that of a GSO packet which is too long for the field. */
static bool parse_ip(const uint8_t *frame, size_t length, struct packet *p)
{
	size_t header, total;

	if (p->ip >= length || p->ip + (p->v4 ? PACKET_IPV4_MIN : PACKET_IPV6_LENGTH) > length ||
		frame[p->ip] >> 4 != (p->v4 ? 4 : 6))
		return false;
	if (p->v4) {
		header = (frame[p->ip] & 15) * 4U;
		total = packet_get16(frame + p->ip + 2);
		p->protocol = frame[p->ip + 9];
		if (header < PACKET_IPV4_MIN || packet_get16(frame + p->ip + 6) & FRAGMENT)
			return false;
	} else {
		header = PACKET_IPV6_LENGTH;
		total = packet_get16(frame + p->ip + 4);
		total += total ? header : 0;
		p->protocol = frame[p->ip + 6];
	}
	p->l4 = p->ip + header;
	/* An Ethernet frame may be longer than its packet. */
	p->end = total ? p->ip + total : length;
	return p->end <= length && p->l4 <= p->end;
}

bool packet_parse(const uint8_t *frame, size_t length, struct packet *ret)
{
	struct packet p = {0};
	uint16_t type;
	size_t link;

	if (length < FRAME_HEADER_SIZE + ETH_HLEN)
		return false;
	link = frame_link_header(frame, length);
	p.ip = FRAME_HEADER_SIZE + link;
	type = packet_get16(frame + p.ip - 2);
	p.v4 = type == ETH_P_IP;
	if ((type != ETH_P_IP && type != ETH_P_IPV6) || !parse_ip(frame, length, &p))
		return false;
	if (p.protocol == IPPROTO_TCP) {
		if (p.l4 + PACKET_TCP_MIN > p.end || frame[p.l4 + 12] >> 4 < 5)
			return false;
		p.payload = p.l4 + (frame[p.l4 + 12] >> 4) * 4U;
	} else if (p.protocol == IPPROTO_UDP) {
		size_t datagram;

		if (p.l4 + PACKET_UDP_LENGTH > p.end)
			return false;
		datagram = packet_get16(frame + p.l4 + 4);
		if (datagram < PACKET_UDP_LENGTH || p.l4 + datagram > p.end)
			return false;
		p.payload = p.l4 + PACKET_UDP_LENGTH;
		p.end = p.l4 + datagram;
	} else {
		return false;
	}
	if (p.payload > p.end)
		return false;
	*ret = p;
	return true;
}
