/* Network interfaces of a namespace, over rtnetlink (rtnetlink(7), libnl-route-3), and TAP devices
 * (Documentation/networking/tuntap.rst). */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/err.h"

/* Every TAP of ours is named with this first, so that a fault can tell it from the instance's own
 * interfaces and leave it alone. */
#define LINK_TAP_PREFIX "pjt-"
#define LINK_LOOPBACK   1	/* index of "lo" in every namespace: include/net/flow.h */

struct link_info {
	int ifindex;
	char name[IFNAMSIZ];
	uint32_t mtu;
	uint8_t address[6];
	bool up, loopback;
};

/* All interfaces, caller frees *ret. */
int link_list(int netns_fd, struct link_info **ret, size_t *ret_count, struct err **err);

/* Global (scope universe) unicast addresses as text, NULL-terminated; caller strv_free()s. */
int link_addresses(int netns_fd, char ***ret, struct err **err);

/* Is it one of our own TAPs? */
bool link_is_our_tap(const struct link_info *l);

/*
 * A TAP with IFF_NO_PI | IFF_VNET_HDR (10 bytes) and checksum/TSO offloads (TUNSETOFFLOAD), made
 * inside the namespace, up, queue of 10,000 frames, without IPv6 of its own (no router
 * solicitations, no MLD), MTU as given. name: LINK_TAP_PREFIX first, at most 15 bytes, -EBUSY if
 * taken. It is not persistent: closing *ret_fd removes it (held). *ret_fd is O_NONBLOCK.
 */
int link_tap_open(int netns_fd, const char *name, uint32_t mtu, int *ret_fd, int *ret_ifindex,
	struct err **err);
