#include "api/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "core/durable.h"

#define BACKLOG 128

static int unix_address(const char *path, struct sockaddr_un *ret, struct err **err)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(ret->sun_path))
		return err_set(err, -EINVAL, "socket path \"%s\": expected 1 to %zu bytes", path,
			sizeof(ret->sun_path) - 1);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, path, n + 1);
	return 0;
}

/* 0 when the path is free to take. */
static int check_vacant(const char *path, struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "socket %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s is there and is no socket", path);
	r = unix_address(path, &address, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "unix socket");
	/* EAGAIN: somebody listens, whose queue is full. */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EAGAIN) {
		if (errno == ECONNREFUSED || errno == ENOENT)
			return 0;
		return err_errno(err, -errno, "try the socket %s", path);
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0)
		return err_set(err, -EBUSY, "another agent is running: pid %d answers on %s",
			(int)peer.pid, path);
	return err_set(err, -EBUSY, "another agent is running: it answers on %s", path);
}

static int create_folder_of(const char *path, struct err **err)
{
	_cleanup_free_ char *folder = strdup(path);
	char *slash;

	if (!folder)
		return err_errno(err, -ENOMEM, "socket %s", path);
	slash = strrchr(folder, '/');
	if (!slash || slash == folder)
		return 0;
	*slash = '\0';
	return folder_create(folder, 0755, err);
}

int listen_unix(const char *path, int *ret_fd, struct stat *ret_id, struct err **err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *temporary = NULL;
	struct sockaddr_un address;
	struct stat id;
	int r;

	r = create_folder_of(path, err);
	if (r < 0)
		return r;
	r = check_vacant(path, err);
	if (r < 0)
		return r;
	if (asprintf(&temporary, "%s.%d", path, (int)getpid()) < 0) {
		temporary = NULL;
		return err_errno(err, -ENOMEM, "socket %s", path);
	}
	r = unix_address(temporary, &address, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, -errno, "unix socket");
	/* Linux gives the path the socket's own mode less the umask: no need to change that for all
	 * threads (unix_bind_bsd() in net/unix/af_unix.c). Nobody can connect before listen(). */
	if (fchmod(fd, 0600) < 0)
		return err_errno(err, -errno, "socket %s: mode", path);
	if (unlink(temporary) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "remove %s", temporary);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(err, -errno, "socket %s: bind", path);
	if (chmod(temporary, 0600) < 0 || listen(fd, BACKLOG) < 0 || lstat(temporary, &id) < 0 ||
		rename(temporary, path) < 0) {
		r = err_errno(err, -errno, "socket %s", path);
		(void)unlink(temporary);
		return r;
	}
	*ret_id = id;
	*ret_fd = steal_fd(&fd);
	return 0;
}

void listen_unix_remove(const char *path, const struct stat *id)
{
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == id->st_dev && st.st_ino == id->st_ino)
		(void)unlink(path);
}

/* "ADDRESS:PORT" in two. */
static int tcp_split(const char *text, char **ret_host, const char **ret_port, struct err **err)
{
	static const char *const form = "expected ADDRESS:PORT or [IPV6]:PORT, as numbers";
	const char *colon = strrchr(text, ':'), *host = text;
	size_t n, digits;

	if (!colon || colon == text)
		return err_set(err, -EINVAL, "listen \"%s\": %s", text, form);
	n = (size_t)(colon - text);
	if (host[0] == '[') {
		if (n < 3 || host[n - 1] != ']')
			return err_set(err, -EINVAL, "listen \"%s\": %s", text, form);
		host++;
		n -= 2;
	} else if (memchr(host, ':', n)) {
		return err_set(err, -EINVAL, "listen \"%s\": IPv6 goes in brackets; %s", text, form);
	}
	digits = strspn(colon + 1, "0123456789");
	if (digits == 0 || digits > 5 || colon[1 + digits] || atoi(colon + 1) > 65535 ||
		atoi(colon + 1) == 0)
		return err_set(err, -EINVAL, "listen \"%s\": port: expected 1 to 65535", text);
	*ret_host = strndup(host, n);
	if (!*ret_host)
		return err_errno(err, -ENOMEM, "listen %s", text);
	*ret_port = colon + 1;
	return 0;
}

static bool is_any_ipv6(const struct sockaddr *address)
{
	struct sockaddr_in6 in6;

	if (address->sa_family != AF_INET6)
		return false;
	memcpy(&in6, address, sizeof(in6));
	return IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
}

static int tcp_open(const char *text, const struct sockaddr *address, socklen_t length, int *ret_fd,
	struct err **err)
{
	_cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return err_errno(err, -errno, "listen %s: socket", text);
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		(address->sa_family == AF_INET6 &&
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
		bind(fd, address, length) < 0 || listen(fd, BACKLOG) < 0)
		return err_errno(err, -errno, "listen %s", text);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* A kernel that was started with ipv6.disable=1 has no such sockets: what was asked for is every address it has. */
static int tcp_open_ipv4(const char *text, const char *port, int *ret_fd, struct err **err)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	return tcp_open(text, (const struct sockaddr *)&any, sizeof(any), ret_fd, err);
}

int listen_tcp(const char *text, int *ret_fd, char **ret_where, struct err **err)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM};
	_cleanup_err_ struct err *cause = NULL;
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *host = NULL, *where = NULL;
	struct addrinfo *found = NULL;
	const char *port = NULL;
	bool without_ipv6;
	int r;

	r = tcp_split(text, &host, &port, err);
	if (r < 0)
		return r;
	r = getaddrinfo(host, port, &hints, &found);
	if (r != 0)
		return err_set(err, -EINVAL, "listen \"%s\": %s", text, gai_strerror(r));
	r = tcp_open(text, found->ai_addr, found->ai_addrlen, &fd, &cause);
	without_ipv6 = r == -EAFNOSUPPORT && is_any_ipv6(found->ai_addr);
	freeaddrinfo(found);
	if (without_ipv6)
		r = tcp_open_ipv4(text, port, &fd, err);
	else if (r < 0)
		return err_set(err, r, "%s", err_text(cause));
	if (r < 0)
		return r;
	if ((without_ipv6 ? asprintf(&where, "0.0.0.0:%s (this node has no IPv6 for %s)", port, text) :
			    asprintf(&where, "%s", text)) < 0) {
		where = NULL;
		return err_errno(err, -ENOMEM, "listen %s", text);
	}
	*ret_where = steal_ptr(where);
	*ret_fd = steal_fd(&fd);
	return 0;
}
