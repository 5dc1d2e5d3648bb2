#include "kernel/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "core/cleanup.h"
#include "kernel/netns.h"

#define MESSAGES_MAX (1U << 20)
#define ANSWER_WAIT_S 2
#define BUFFER_BYTES 32768

int netlink_open(int netns_fd, int protocol, int *ret_fd, struct err **err)
{
	const struct timeval wait = {.tv_sec = ANSWER_WAIT_S};
	_cleanup_close_ int fd = -1;
	int r;

	r = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, protocol, &fd, err);
	if (r < 0)
		return r;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		return err_errno(err, errno, "bound the wait for netlink");
	*ret_fd = steal_fd(&fd);
	return 0;
}

int netlink_talk(int fd, const struct nlmsghdr *request, mnl_cb_t call, void *data, const char *what,
	struct err **err)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}, from;
	_cleanup_free_ char *buffer = malloc(BUFFER_BYTES);

	if (!buffer)
		return err_errno(err, ENOMEM, "%s", what);
	if (sendto(fd, request, request->nlmsg_len, 0, (struct sockaddr *)&kernel,
		    sizeof(kernel)) < 0)
		return err_errno(err, errno, "%s: ask", what);
	for (unsigned n = 0; n < MESSAGES_MAX; n++) {
		socklen_t length = sizeof(from);
		ssize_t got = recvfrom(fd, buffer, BUFFER_BYTES, 0, (struct sockaddr *)&from, &length);
		int r;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_errno(err, errno, "%s: read the answer", what);
		if (from.nl_pid != 0)	/* not from the kernel */
			continue;
		r = mnl_cb_run(buffer, (size_t)got, request->nlmsg_seq, 0, call, data);
		if (r < 0)
			return err_errno(err, errno, "%s", what);
		if (r == MNL_CB_STOP)
			return 0;
	}
	return err_set(err, EIO, "%s: the answer has no end", what);
}
