/*
 * Frames and the memory that they are held in. A frame is what a TAP with IFF_VNET_HDR gives: a
 * struct virtio_net_hdr (include/uapi/linux/virtio_net.h), then the Ethernet frame, which may be a
 * whole GSO packet of up to 64 KiB. Frames are read straight into large chunks, one after another;
 * a chunk is used again once all its frames have left. So there is no allocation a frame, little
 * waste for small ones, and a hard bound on the memory. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/virtio_net.h>
#include "core/err.h"

#define FRAME_HEADER_SIZE sizeof(struct virtio_net_hdr)
/* 64 KiB of IP, Ethernet with two VLAN tags, and the header above. */
#define FRAME_LENGTH_MAX (65536U + 22U + FRAME_HEADER_SIZE)
/* What a frame is charged beside its bytes: for this struct and its place in the queue. */
#define FRAME_OVERHEAD 64U

struct frame_chunk;

struct frame {
	struct frame_chunk *chunk;
	uint64_t arrival_ns;
	uint32_t length;		/* of data, header included */
	uint16_t lane;
	uint16_t references;
	uint16_t tries;			/* of writing it */
	uint8_t data[] __attribute__((aligned(8)));
};

struct frame_store {
	struct frame_chunk *current, *free;
	struct frame_chunk *all;
	size_t chunks, chunks_max;
	uint64_t limit_bytes, held_bytes;
};

/* limit_bytes: of frames and their overhead. Memory stays below limit / 0.9 + 2 MiB. */
void frame_store_init(struct frame_store *s, uint64_t limit_bytes);
void frame_store_done(struct frame_store *s);
/* A frame with room for FRAME_LENGTH_MAX bytes; the same one until it is kept. NULL: no memory. */
struct frame *frame_store_next(struct frame_store *s);
/* Keeps that frame, with one reference. -ENOBUFS beyond the limit; but the only frame is always
 * taken, so that a limit below a GSO packet's size slows and does not cut. */
int frame_store_keep(struct frame_store *s, struct frame *f, size_t length);
/* Drops a reference; the last one gives the memory back. */
void frame_store_drop(struct frame_store *s, struct frame *f);
