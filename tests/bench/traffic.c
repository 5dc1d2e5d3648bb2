/*
 * Traffic to measure, between two network namespaces of one machine.
 *
 *   traffic serve PORT                           TCP and UDP; ends with its input
 *   traffic stream ADDRESS PORT up|down WARM_MS MS    bits a second, as the receiver counts them
 *   traffic rr ADDRESS PORT MS                   TCP: transactions of one byte each way, a second
 *   traffic ping ADDRESS PORT COUNT INTERVAL_US  UDP: a round trip's nanoseconds a line, or "lost"
 *
 * With BENCH_PIN in the environment of both sides: a stream's sender and receiver have a CPU each, a
 * transaction's both ends share one. Else where the scheduler happens to put them decides the figure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/clock.h"

#define CHUNK	   (256UL << 10)
#define PING_MAX   100000
#define LAST_WAIT_S 2

enum order { ORDER_SINK, ORDER_SOURCE, ORDER_ECHO };

struct request {
	uint32_t order, warm_ms, ms;
};

struct ping {
	uint64_t number, sent_ns;
	char pad[48];
};

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* So that what is measured is the network and not how long a thread waits for its turn. */
static void be_prompt(void)
{
	struct sched_param p = {.sched_priority = 1};

	(void)pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
}

static void pin(int cpu)
{
	cpu_set_t set;

	if (!getenv("BENCH_PIN"))
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);	/* one CPU alone: then that */
}

static bool read_all(int fd, void *data, size_t length)
{
	return recv(fd, data, length, MSG_WAITALL) == (ssize_t)length;
}

static void send_on(int fd)
{
	static char zeros[CHUNK];

	while (send(fd, zeros, sizeof(zeros), MSG_NOSIGNAL) > 0)
		;
}

static double receive(int fd, uint32_t warm_ms, uint32_t ms)
{
	static _Thread_local char buf[CHUNK];
	uint64_t bytes = 0, begin = now_ns() + warm_ms * NS_PER_MS, counted = 0, now;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		now = now_ns();
		if (now < begin)
			continue;
		/* What came with this read came before the count. */
		if (!counted)
			counted = now;
		else
			bytes += (uint64_t)n;
		if (now - counted >= ms * NS_PER_MS)
			return (double)bytes * 8e9 / (double)(now - counted);
	}
	return 0;
}

static void drain(int fd)
{
	static _Thread_local char buf[CHUNK];

	while (recv(fd, buf, sizeof(buf), 0) > 0)
		;
}

static void echo(int fd)
{
	char byte;

	while (recv(fd, &byte, 1, 0) == 1 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1)
		;
}

static void *serve_one(void *data)
{
	int fd = (int)(intptr_t)data, one = 1;
	struct request q;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	pin(0);
	if (read_all(fd, &q, sizeof(q))) {
		if (q.order == ORDER_SINK) {
			double rate = receive(fd, q.warm_ms, q.ms);

			send(fd, &rate, sizeof(rate), MSG_NOSIGNAL);
			drain(fd);
		} else if (q.order == ORDER_SOURCE) {
			send_on(fd);
		} else {
			echo(fd);
		}
	}
	close(fd);
	return NULL;
}

static void *serve_tcp(void *data)
{
	int listener = (int)(intptr_t)data;

	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;

		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) != 0)
			fail("thread");
		pthread_detach(thread);
	}
	return NULL;
}

static void *serve_udp(void *data)
{
	int fd = (int)(intptr_t)data;

	be_prompt();
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		struct ping p;
		ssize_t n = recvfrom(fd, &p, sizeof(p), 0, (struct sockaddr *)&from, &length);

		if (n > 0)
			sendto(fd, &p, (size_t)n, 0, (struct sockaddr *)&from, length);
	}
	return NULL;
}

static struct sockaddr_in address_of(const char *host, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", host);
		exit(2);
	}
	return a;
}

static int serve(const char *port)
{
	struct sockaddr_in a = address_of("0.0.0.0", port);
	int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
	pthread_t threads[2];
	char byte;

	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(tcp, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(tcp, 16) < 0 ||
		bind(udp, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("listen");
	if (pthread_create(&threads[0], NULL, serve_tcp, (void *)(intptr_t)tcp) != 0 ||
		pthread_create(&threads[1], NULL, serve_udp, (void *)(intptr_t)udp) != 0)
		fail("thread");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

static int dial(const char *host, const char *port, int type)
{
	struct sockaddr_in a = address_of(host, port);
	int fd = socket(AF_INET, type, 0), one = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("connect");
	if (type == SOCK_STREAM)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void *send_thread(void *data)
{
	send_on((int)(intptr_t)data);
	return NULL;
}

static int stream(char **argv)
{
	bool up = strcmp(argv[4], "up") == 0;
	struct request q = {
		.order = up ? ORDER_SINK : ORDER_SOURCE,
		.warm_ms = (uint32_t)atoi(argv[5]),
		.ms = (uint32_t)atoi(argv[6]),
	};
	int fd = dial(argv[2], argv[3], SOCK_STREAM);
	pthread_t thread;
	double rate = 0;

	pin(1);
	if (send(fd, &q, sizeof(q), MSG_NOSIGNAL) != sizeof(q))
		fail("send");
	if (!up) {
		rate = receive(fd, q.warm_ms, q.ms);
	} else {
		if (pthread_create(&thread, NULL, send_thread, (void *)(intptr_t)fd) != 0)
			fail("thread");
		if (!read_all(fd, &rate, sizeof(rate)))
			fail("receive");
		shutdown(fd, SHUT_RDWR);
		pthread_join(thread, NULL);
	}
	close(fd);
	printf("%.0f\n", rate);
	return 0;
}

static int request_response(char **argv)
{
	struct request q = {.order = ORDER_ECHO};
	uint64_t begin, end, now, count = 0;
	int fd = dial(argv[2], argv[3], SOCK_STREAM);
	char byte = 'x';

	pin(0);
	if (send(fd, &q, sizeof(q), MSG_NOSIGNAL) != sizeof(q))
		fail("send");
	begin = now_ns();
	end = begin + (uint64_t)atoi(argv[4]) * NS_PER_MS;
	do {
		if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1)
			fail("transaction");
		now = now_ns();
		count++;
	} while (now < end);
	printf("%.1f\n", (double)count * 1e9 / (double)(now - begin));
	return 0;
}

struct pinger {
	int fd;
	uint64_t count, interval_ns;
	uint64_t *rtt_ns;
};

static void *ping_receive(void *data)
{
	struct timeval patience = {.tv_sec = LAST_WAIT_S};
	struct pinger *x = data;
	struct ping p;

	be_prompt();
	setsockopt(x->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (uint64_t got = 0; got < x->count; got++) {
		if (recv(x->fd, &p, sizeof(p), 0) != sizeof(p))
			break;
		if (p.number < x->count)
			x->rtt_ns[p.number] = now_ns() - p.sent_ns;
	}
	return NULL;
}

static int ping(char **argv)
{
	struct pinger x = {
		.fd = dial(argv[2], argv[3], SOCK_DGRAM),
		.count = strtoull(argv[4], NULL, 10),
		.interval_ns = strtoull(argv[5], NULL, 10) * NS_PER_US,
	};
	pthread_t thread;
	uint64_t at;

	if (x.count == 0 || x.count > PING_MAX || !(x.rtt_ns = calloc(x.count, sizeof(uint64_t))))
		fail("ping");
	if (pthread_create(&thread, NULL, ping_receive, &x) != 0)
		fail("thread");
	be_prompt();
	at = now_ns();
	for (uint64_t i = 0; i < x.count; i++) {
		struct timespec t = {(time_t)(at / NS_PER_S), (long)(at % NS_PER_S)};
		struct ping p = {.number = i};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		p.sent_ns = now_ns();
		if (send(x.fd, &p, sizeof(p), 0) < 0)
			fail("send");
		at += x.interval_ns;
	}
	pthread_join(thread, NULL);
	for (uint64_t i = 0; i < x.count; i++) {
		if (x.rtt_ns[i])
			printf("%ju\n", (uintmax_t)x.rtt_ns[i]);
		else
			puts("lost");
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc == 7 && strcmp(argv[1], "stream") == 0)
		return stream(argv);
	if (argc == 5 && strcmp(argv[1], "rr") == 0)
		return request_response(argv);
	if (argc == 6 && strcmp(argv[1], "ping") == 0)
		return ping(argv);
	fprintf(stderr, "usage: traffic serve PORT | stream ADDRESS PORT up|down WARM_MS MS |\n"
		"  rr ADDRESS PORT MS | ping ADDRESS PORT COUNT INTERVAL_US\n");
	return 2;
}
