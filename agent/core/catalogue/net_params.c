#include "core/catalogue/net_params.h"

#include <stddef.h>

const char *const net_protocol_choices[] = {"any", "tcp", "udp", "icmp", NULL};
const char *const net_direction_choices[] = {"both", "in", "out", NULL};

int net_params_check(const struct params *p, struct err **err)
{
	const struct peer_list *peers = params_peers(p, "peers");

	if (params_number(p, "protocol") != NET_PROTOCOL_ICMP)
		return 0;
	if (params_is_set(p, "ports"))
		return err_set(err, -EINVAL, "ports: icmp has none (protocol)");
	for (size_t i = 0; i < peers->count; i++)
		if (peers->peers[i].port_low != 0 || peers->peers[i].port_high != UINT16_MAX)
			return err_set(err, -EINVAL,
				"peers: \"%s\" has ports and icmp none (protocol)",
				peers->peers[i].label);
	return 0;
}
