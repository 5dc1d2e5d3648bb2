#include "api/client.h"

#include <stdlib.h>
#include <sys/socket.h>
#include "core/clock.h"

struct client *client_new(struct client_list *list, int fd, const void *listener)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->fd = fd;
	c->listener = listener;
	c->since_ns = now_ns();
	c->next = list->first;
	if (c->next)
		c->next->previous = c;
	list->first = c;
	list->count++;
	return c;
}

void client_free(struct client_list *list, struct client *c)
{
	if (!c)
		return;
	if (c->previous)
		c->previous->next = c->next;
	else
		list->first = c->next;
	if (c->next)
		c->next->previous = c->previous;
	list->count--;
	free(c);
}

static uint64_t client_limit_ms(const struct client *c)
{
	if (c->following)
		return CLIENT_STALLED_MS;
	if (c->busy)
		return CLIENT_REQUEST_MS;
	return c->known ? CLIENT_IDLE_MS : CLIENT_STRANGER_MS;
}

/* An end that came with the last bytes: edge-triggered, libmicrohttpd does not look for it again. */
static bool client_hung_up(const struct client *c)
{
	char byte;

	return !c->answering && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

unsigned client_list_expire(struct client_list *list, uint64_t at_ns)
{
	unsigned expired = 0;

	for (struct client *c = list->first; c; c = c->next) {
		uint64_t limit_ns = client_limit_ms(c) * NS_PER_MS;

		if (c->suspended)
			continue;
		if (at_ns < c->since_ns + limit_ns && !client_hung_up(c))
			continue;
		(void)shutdown(c->fd, SHUT_RDWR);
		expired++;
	}
	return expired;
}

void client_list_shut(struct client_list *list, const void *listener)
{
	for (struct client *c = list->first; c; c = c->next)
		if (c->listener == listener)
			(void)shutdown(c->fd, SHUT_RDWR);
}
