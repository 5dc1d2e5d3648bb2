/* A frame as an instance may send it, with its virtio header: cut into packets, altered, answered. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fault/dns_query.h"
#include "hold/frame.h"
#include "hold/packet.h"
#include "hold/segment.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

/* Each time from a copy of just its length, so that a step beyond its end shows. */
static uint8_t *copy(const uint8_t *data, size_t size)
{
	uint8_t *p = malloc(size ? size : 1);

	if (!p)
		abort();
	if (size)
		memcpy(p, data, size);
	return p;
}

static void try_answer(const uint8_t *frame, size_t size)
{
	uint8_t answer[DNS_ANSWER_MAX];
	struct dns_question q;
	struct packet p;

	if (!packet_parse(frame, size, &p))
		return;
	if (p.protocol == IPPROTO_UDP && dns_query_parse(frame + p.payload, p.end - p.payload, &q) &&
		dns_answer(frame, &p, &q, DNS_RCODE_NXDOMAIN, answer) > sizeof(answer))
		abort();
	if (p.protocol == IPPROTO_TCP && dns_reset(frame, &p, answer) > sizeof(answer))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[FRAME_LENGTH_MAX];
	_cleanup_free_ uint8_t *whole = NULL, *altered = NULL, *flipped = NULL;
	struct segments s;

	/* As the delay line: shorter ones and longer ones never come to this. */
	if (size < FRAME_HEADER_SIZE + 14 || size > FRAME_LENGTH_MAX)
		return 0;
	whole = copy(data, size);
	segments_of(whole, size, &s);
	for (size_t i = 0; i < s.count && s.count > 1 && i < 2048; i++)
		if (segment_copy(whole, size, &s, i, room, sizeof(room)) > (ssize_t)sizeof(room))
			abort();
	altered = copy(data, size);
	for (size_t i = 0; i < s.count && i < 8; i++)
		frame_alter_payload(altered, size, &s, i, 12345);
	flipped = copy(data, size);
	if (frame_complete_checksum(flipped, size))
		frame_flip_bit(flipped, size, 54321);
	try_answer(whole, size);
	return 0;
}
