#include "agentlink/local_agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agentlink/agent_link.h"
#include "core/clock.h"

#define START_TIMEOUT_MS 10000
#define FOLDERS		 "/run/pgjolt-look-"
#define FOLDER_NEW_S	 60
#define STOP_TIMEOUT_MS 20000

struct local_agent {
	pid_t pid;
	int pidfd;
	char *folder;		/* of a private one; goes with it */
	char *socket_path;
};

int local_agent_answers(const char *path, bool *ret, struct err **err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(err, -EINVAL, "socket path \"%s\" is longer than %zu bytes", path,
			sizeof(a.sun_path) - 1);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	*ret = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	if (!*ret && (errno == EACCES || errno == EPERM))
		return err_set(err, -EACCES, "not allowed to talk to the agent on %s: run as root",
			path);
	return 0;
}

/* Beside pgjolt (installed or in a build tree), else in PATH. */
static char *agent_binary(void)
{
	static const char *const beside[] = {"pgjolt-agent", "../sbin/pgjolt-agent",
		"../agent/pgjolt-agent"};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path = NULL;

	if (n > 0) {
		self[n] = 0;
		slash = strrchr(self, '/');
		if (slash)
			*slash = 0;
		for (size_t i = 0; i < ELEMENTS(beside); i++) {
			if (asprintf(&path, "%s/%s", self, beside[i]) < 0)
				return NULL;
			if (access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return strdup("pgjolt-agent");
}

static void child_exec(const char *binary, const char *socket_path, const char *journal, int ready_fd,
	pid_t parent) __attribute__((noreturn));
static void child_exec(const char *binary, const char *socket_path, const char *journal, int ready_fd,
	pid_t parent)
{
	char owner[32], ready[32];
	sigset_t none;

	snprintf(owner, sizeof(owner), "%d", (int)parent);
	snprintf(ready, sizeof(ready), "%d", ready_fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* A session of its own: Ctrl-C is ours to handle, and we revert before the agent leaves. */
	setsid();
	fcntl(ready_fd, F_SETFD, 0);
	/* Without --journal the list ends earlier. */
	execlp(binary, "pgjolt-agent", "serve", "--socket", socket_path, "--owner-pid", owner,
		"--ready-fd", ready, "--log-level", "warning", journal ? "--journal" : (char *)NULL,
		journal, (char *)NULL);
	dprintf(STDERR_FILENO, "pgjolt: cannot start %s: %s\n", binary, strerror(errno));
	_exit(127);
}

static int wait_ready(struct local_agent *a, int fd, struct err **err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char word[16];
	int r = poll(&p, 1, START_TIMEOUT_MS);

	if (r < 0)
		return err_errno(err, errno, "poll");
	if (r == 0)
		return err_set(err, -ETIMEDOUT, "the agent was not ready within %d s",
			START_TIMEOUT_MS / 1000);
	if (read(fd, word, sizeof(word)) <= 0) {
		int status = 0;

		waitpid(a->pid, &status, 0);
		a->pid = 0;
		return err_set(err, -ECHILD,
			"the agent ended at its start (exit %d); its words are above",
			WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	return 0;
}

/* What an agent leaves in its folder: the journal's lock, and the ids that served. */
static void folder_forget(const char *folder)
{
	static const char *const names[] = {"journal/ids", "journal/lock", "journal", "agent.sock", ""};

	for (size_t i = 0; i < ELEMENTS(names); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/%s", folder, names[i]) < 0)
			return;
		remove(path);
	}
}

/* Is no agent there, and none about to be? */
static bool folder_is_left(const char *folder)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat st;

	if (lstat(folder, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		time(NULL) - st.st_mtime < FOLDER_NEW_S || asprintf(&path, "%s/journal/lock", folder) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? errno == ENOENT : fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

/* Of those who were killed before they could remove theirs. */
static void folders_forget(void)
{
	glob_t found;

	if (glob(FOLDERS "*", 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (folder_is_left(found.gl_pathv[i]))
				folder_forget(found.gl_pathv[i]);
	globfree(&found);
}

static int start(const char *socket_path, const char *journal, struct local_agent **ret,
	struct err **err)
{
	_cleanup_free_ char *binary = NULL;
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	struct local_agent *a;
	pid_t self = getpid();
	int fds[2], r;

	if (geteuid() != 0)
		return err_set(err, -EACCES,
			"no agent answers on %s, and starting one takes root: run as root, or name a "
			"socket with --agent",
			AGENT_SOCKET_DEFAULT);
	binary = agent_binary();
	if (!binary || pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "cannot start an agent");
	read_fd = fds[0];
	write_fd = fds[1];
	a = calloc(1, sizeof(*a));
	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->pidfd = -1;
	a->pid = fork();
	if (a->pid == 0)
		child_exec(binary, socket_path, journal, write_fd, self);
	if (a->pid < 0) {
		free(a);
		return err_errno(err, errno, "fork");
	}
	close(steal_fd(&write_fd));
	a->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
	r = wait_ready(a, read_fd, err);
	if (r < 0) {
		local_agent_stop(a);
		return r;
	}
	*ret = a;
	return 0;
}

int local_agent_ensure(const char *socket_path, struct local_agent **ret, struct err **err)
{
	bool answers = false;
	int r = local_agent_answers(socket_path, &answers, err);

	if (r < 0)
		return r;
	*ret = NULL;
	return answers ? 0 : start(socket_path, NULL, ret, err);
}

int local_agent_private(struct local_agent **ret, struct err **err)
{
	_cleanup_free_ char *folder = strdup(FOLDERS "XXXXXX");
	_cleanup_free_ char *journal = NULL;
	char *socket_path = NULL;
	int r;

	if (geteuid() != 0)
		return start(AGENT_SOCKET_DEFAULT, NULL, ret, err);
	folders_forget();
	if (!folder || !mkdtemp(folder))
		return err_errno(err, errno, "a folder below /run");
	if (asprintf(&socket_path, "%s/agent.sock", folder) < 0 ||
		asprintf(&journal, "%s/journal", folder) < 0)
		abort();
	r = start(socket_path, journal, ret, err);
	if (r < 0) {
		folder_forget(folder);
		free(socket_path);
		return r;
	}
	(*ret)->folder = steal_ptr(folder);
	(*ret)->socket_path = socket_path;
	return 0;
}

const char *local_agent_socket(const struct local_agent *a)
{
	return a->socket_path;
}

void local_agent_detach(struct local_agent *a)
{
	if (!a)
		return;
	if (a->pidfd >= 0)
		close(a->pidfd);
	free(a->folder);
	free(a->socket_path);
	free(a);
}

/* One that is blocked for a loop that is not turned any more. */
static bool is_interrupted(void)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1 ||
		sigismember(&pending, SIGHUP) == 1;
}

int local_agent_stop(struct local_agent *a)
{
	int status = 0;
	uint64_t end = now_ns() + STOP_TIMEOUT_MS * NS_PER_MS;

	if (!a)
		return 0;
	if (a->pid > 0) {
		kill(a->pid, SIGTERM);
		while (waitpid(a->pid, &status, WNOHANG) == 0) {
			struct pollfd p = {.fd = a->pidfd, .events = POLLIN};

			if (is_interrupted()) {
				local_agent_detach(a);
				return -EINTR;
			}
			if (now_ns() >= end) {
				/* What it held ends with it; the journal has the rest. */
				kill(a->pid, SIGKILL);
				waitpid(a->pid, &status, 0);
				break;
			}
			poll(&p, 1, 100);
		}
	}
	if (a->folder)
		folder_forget(a->folder);
	local_agent_detach(a);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int local_agent_pidfd(const struct local_agent *a)
{
	return a ? a->pidfd : -1;
}

int local_agent_journal(size_t *ret_count, struct err **err)
{
	static const char folder[] = "/var/lib/pgjolt/journal";
	DIR *d = opendir(folder);
	struct dirent *entry;
	size_t count = 0;

	if (!d && errno != ENOENT)
		return err_errno(err, errno, "no agent runs here, and its journal %s cannot be read", folder);
	while (d && (entry = readdir(d))) {
		const char *dot = strrchr(entry->d_name, '.');

		count += dot && (strcmp(dot, ".json") == 0 || strcmp(dot, ".bad") == 0);
	}
	if (d)
		closedir(d);
	*ret_count = count;
	return 0;
}
