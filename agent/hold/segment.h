/*
 * The little of a network stack that the delay line needs: how many packets a GSO frame will be on
 * the wire, one of these packets by itself, and complete checksums. A frame is as in hold/frame.h.
 * Frames are untrusted: every offset is checked, and what cannot be parsed counts as one packet.
 * Headers: RFC 791, 8200, 9293; checksums: RFC 1071; partial ones: include/linux/skbuff.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

/* Length of the Ethernet header and its VLAN tags, within length. */
size_t frame_link_header(const uint8_t *frame, size_t length);

struct segments {
	size_t count;		/* packets on the wire, 1 or more */
	size_t wire_bytes;	/* of all, with their Ethernet headers */
	size_t headers;		/* count > 1: bytes before the TCP payload, virtio header included */
	size_t payload;		/* count > 1: of each packet but the last */
};

/* Only TCP frames are ever split: the TAP asks for no other GSO. */
void segments_of(const uint8_t *frame, size_t length, struct segments *ret);
/* Packet number i of a frame with count > 1, its checksum complete. room: of ret.
 * Returns its length, virtio header included, or -EMSGSIZE. */
ssize_t segment_copy(const uint8_t *frame, size_t length, const struct segments *s, size_t i,
	uint8_t *ret, size_t room);
/* Completes a checksum that was left to the hardware (VIRTIO_NET_HDR_F_NEEDS_CSUM) in a frame that
 * is one packet on the wire, and clears the flags that vouch for it. false: it is more, or cannot be
 * parsed; it is as it was, and whatever is changed in it the kernel vouches for. */
bool frame_complete_checksum(uint8_t *frame, size_t length);
/* Flips a bit beyond the link header: bit number pick modulo the bits there. The checksum must be
 * complete. false: nothing to flip. */
bool frame_flip_bit(uint8_t *frame, size_t length, uint64_t pick);
/* Changes one byte of the TCP payload of packet number i, chosen by pick, and keeps the checksum right,
 * so that TCP takes it. A checksum that was wrong stays so. false: no TCP, or no payload. */
bool frame_alter_payload(uint8_t *frame, size_t length, const struct segments *s, size_t i,
	uint64_t pick);
