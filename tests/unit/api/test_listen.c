#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include "api/listen.h"

static char folder[] = "/tmp/pj-listen-XXXXXX";
static char path[64];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/agent.sock", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
}

TestSuite(listen, .init = setup, .fini = teardown);

Test(listen, is_for_its_owner_alone_and_takes_connections)
{
	_cleanup_close_ int fd = -1, client = socket(AF_UNIX, SOCK_STREAM, 0);
	_cleanup_err_ struct err *err = NULL;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat id, st;

	cr_assert_eq(listen_unix(path, &fd, &id, &err), 0, "%s", err_text(err));
	cr_assert_eq(stat(path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode));
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_ino, id.st_ino);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	strcpy(address.sun_path, path);
	cr_assert_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	listen_unix_remove(path, &id);
	cr_assert_eq(access(path, F_OK), -1);
}

Test(listen, creates_the_folder)
{
	_cleanup_close_ int fd = -1;
	char below[96];
	struct stat id;

	snprintf(below, sizeof(below), "%s/run/agent.sock", folder);
	cr_assert_eq(listen_unix(below, &fd, &id, NULL), 0);
	listen_unix_remove(below, &id);
	snprintf(below, sizeof(below), "%s/run", folder);
	cr_assert_eq(rmdir(below), 0);
}

Test(listen, refuses_while_another_answers_and_replaces_a_stale_one)
{
	_cleanup_close_ int second = -1;
	_cleanup_err_ struct err *err = NULL;
	struct stat id, id2, st;
	int first;

	cr_assert_eq(listen_unix(path, &first, &id, NULL), 0);
	cr_assert_eq(listen_unix(path, &second, &id2, &err), -EBUSY);
	cr_assert_not_null(strstr(err_text(err), "another agent is running"));
	close(first);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(listen_unix(path, &second, &id2, NULL), 0);
	/* The first one's farewell leaves the second's socket alone. */
	if (id.st_ino != id2.st_ino)
		listen_unix_remove(path, &id);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_ino, id2.st_ino);
}

Test(listen, leaves_alone_what_is_no_socket)
{
	_cleanup_close_ int file = open(path, O_CREAT | O_WRONLY, 0600);
	_cleanup_err_ struct err *err = NULL;
	struct stat id;
	int fd = -1;

	cr_assert_geq(file, 0);
	cr_assert_eq(listen_unix(path, &fd, &id, &err), -EEXIST);
	cr_assert_eq(fd, -1);
	cr_assert_eq(access(path, F_OK), 0);
}

Test(listen, says_when_the_path_is_too_long)
{
	_cleanup_err_ struct err *err = NULL;
	char longer[200];
	struct stat id;
	int fd = -1;

	snprintf(longer, sizeof(longer), "%s/%0120d", folder, 1);
	cr_assert_eq(listen_unix(longer, &fd, &id, &err), -EINVAL);
	cr_assert_not_null(strstr(err_text(err), "107 bytes"), "%s", err_text(err));
}

Test(listen, tcp_addresses)
{
	static const char *const wrong[] = {"", "8443", ":8443", "127.0.0.1", "127.0.0.1:",
		"127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:84x", "::1:8443", "[::1]", "[]:8443",
		"localhost:8443", "127.0.0.1:-1", "256.0.0.1:80"};
	static const char *const right[] = {"127.0.0.1:39217", "[::1]:39217"};

	for (size_t i = 0; i < ELEMENTS(wrong); i++) {
		_cleanup_err_ struct err *err = NULL;
		char *where = NULL;
		int fd = -1;

		cr_assert_eq(listen_tcp(wrong[i], &fd, &where, &err), -EINVAL, "%s", wrong[i]);
		cr_assert_not_null(strstr(err_text(err), wrong[i]));
		cr_assert_eq(fd, -1);
		cr_assert_null(where);
	}
	for (size_t i = 0; i < ELEMENTS(right); i++) {
		_cleanup_close_ int fd = -1, other = -1;
		_cleanup_err_ struct err *err = NULL;
		_cleanup_free_ char *where = NULL, *none = NULL;
		int r = listen_tcp(right[i], &fd, &where, &err);

		if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL || r == -EADDRINUSE)
			continue;
		cr_assert_eq(r, 0, "%s: %s", right[i], err_text(err));
		cr_assert_str_eq(where, right[i]);
		cr_assert_eq(listen_tcp(right[i], &other, &none, NULL), -EADDRINUSE);
	}
}

/* As on a kernel with ipv6.disable=1: from here on, in this test's process. */
static void forbid_ipv6(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = ELEMENTS(filter), .filter = filter};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* A port that nobody has. */
static unsigned free_port(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t length = sizeof(any);

	cr_assert_eq(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&any, &length), 0);
	return ntohs(any.sin_port);
}

Test(listen, every_address_is_ipv4_where_there_is_no_ipv6)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int fd = -1, client = socket(AF_INET, SOCK_STREAM, 0);
	_cleanup_free_ char *where = NULL, *none = NULL;
	_cleanup_err_ struct err *err = NULL;
	unsigned port = free_port();
	char text[32], words[96];
	int other = -1;

	forbid_ipv6();
	snprintf(text, sizeof(text), "[::]:%u", port);
	snprintf(words, sizeof(words), "0.0.0.0:%u (this node has no IPv6 for [::]:%u)", port, port);
	cr_assert_eq(listen_tcp(text, &fd, &where, &err), 0, "%s", err_text(err));
	cr_assert_str_eq(where, words);
	to.sin_port = htons((uint16_t)port);
	cr_assert_eq(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	/* Who names an address means that one. */
	cr_assert_eq(listen_tcp("[::1]:39218", &other, &none, &err), -EAFNOSUPPORT);
	cr_assert_null(none);
	cr_assert_eq(other, -1);
}
