#include "kernel/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/cleanup.h"

#define PROC_PATH_MAX 64
#define TITLE_MAX     (64UL << 10)

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* ENOENT on opening and ESRCH on reading both mean that the process went away. */
static int gone(int e)
{
	return e == ENOENT || e == ESRCH ? ESRCH : e;
}

int proc_read_file(pid_t pid, const char *name, size_t max, char **ret, size_t *ret_length,
	struct err **err)
{
	char path[PROC_PATH_MAX];
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	size_t length = 0, room = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, gone(errno), "open %s", path);
	while (length < max) {
		ssize_t n;

		if (room - length < 2) {
			char *more;

			room = room ? room * 4 : 1024;
			if (room > max + 1)
				room = max + 1;
			more = realloc(text, room);
			if (!more)
				return err_errno(err, ENOMEM, "read %s", path);
			text = more;
		}
		n = read(fd, text + length, room - length - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, gone(errno), "read %s", path);
		if (n == 0)
			break;
		length += (size_t)n;
	}
	if (!text)
		return err_set(err, EINVAL, "read %s: no room was given", path);
	text[length] = '\0';
	*ret = steal_ptr(text);
	*ret_length = length;
	return 0;
}

int proc_read_link(pid_t pid, const char *name, char **ret, struct err **err)
{
	char path[PROC_PATH_MAX], target[PATH_MAX + 16];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return err_errno(err, gone(errno), "read the link %s", path);
	target[n] = '\0';
	*ret = strdup(target);
	return *ret ? 0 : err_errno(err, ENOMEM, "read the link %s", path);
}

int proc_status_field(pid_t pid, const char *name, char **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t length, name_length = strlen(name);
	char *line, *next;
	int r;

	r = proc_read_file(pid, "status", 64UL << 10, &text, &length, err);
	if (r < 0)
		return r;
	/* The kernel escapes newlines in Name:, so a line is a field. */
	for (line = text; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (strncmp(line, name, name_length) != 0 || line[name_length] != ':')
			continue;
		line += name_length + 1;
		line += strspn(line, " \t");
		for (size_t n = strlen(line); n > 0 && isspace((unsigned char)line[n - 1]); n--)
			line[n - 1] = '\0';
		*ret = strdup(line);
		return *ret ? 0 : err_errno(err, ENOMEM, "read /proc/%d/status", pid);
	}
	return err_set(err, ENODATA, "/proc/%d/status has no %s", pid, name);
}

int proc_tracer(pid_t pid, pid_t *ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	int r;

	r = proc_status_field(pid, "TracerPid", &text, err);
	if (r < 0)
		return r;
	*ret = (pid_t)strtol(text, NULL, 10);
	return 0;
}

int proc_namespace(pid_t pid, const char *name, uint64_t *ret, struct err **err)
{
	char path[PROC_PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	if (stat(path, &st) < 0)
		return err_errno(err, gone(errno), "stat %s", path);
	*ret = st.st_ino;
	return 0;
}

/* PID (COMM) STATE PPID ... STARTTIME ...: COMM may hold blanks and parentheses, so the last ")". */
static int stat_parse(const char *text, struct proc_stat *ret)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	struct proc_stat s = {0};
	size_t length;
	int pid, ppid;

	if (!open || !close || close < open)
		return -EINVAL;
	length = (size_t)(close - open - 1);
	if (length >= sizeof(s.comm))
		length = sizeof(s.comm) - 1;
	memcpy(s.comm, open + 1, length);
	if (sscanf(text, "%d", &pid) != 1 ||
	    sscanf(close + 1,
		   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d "
		   "%lu", &s.state, &ppid, &s.id.start_ticks) != 3)
		return -EINVAL;
	s.id.pid = pid;
	s.ppid = ppid;
	*ret = s;
	return 0;
}

int proc_read_stat(pid_t pid, struct proc_stat *ret, struct err **err)
{
	char path[PROC_PATH_MAX], text[1024];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	if (pid <= 0)
		return err_set(err, EINVAL, "%d is no process id", pid);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, gone(errno), "open %s", path);
	do
		n = read(fd, text, sizeof(text) - 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno(err, gone(errno), "read %s", path);
	text[n] = '\0';
	if (stat_parse(text, ret) < 0)
		return err_set(err, EIO, "%s is not as proc(5) says", path);
	return 0;
}

int proc_identify(pid_t pid, struct proc_id *ret, struct err **err)
{
	struct proc_stat s;
	int r;

	r = proc_read_stat(pid, &s, err);
	if (r < 0)
		return r;
	*ret = s.id;
	return 0;
}

bool proc_is_alive(const struct proc_id *id)
{
	struct proc_stat s;

	return proc_read_stat(id->pid, &s, NULL) == 0 && s.id.start_ticks == id->start_ticks &&
	       s.state != 'Z' && s.state != 'X';
}

int proc_title(pid_t pid, char **ret, struct err **err)
{
	_cleanup_free_ char *text = NULL;
	size_t length;
	int r;

	r = proc_read_file(pid, "cmdline", TITLE_MAX, &text, &length, err);
	if (r < 0)
		return r;
	while (length > 0 && (text[length - 1] == '\0' || text[length - 1] == ' '))
		text[--length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	*ret = steal_ptr(text);
	return 0;
}

int proc_pidfd(const struct proc_id *id, int *ret_fd, struct err **err)
{
	_cleanup_close_ int fd = -1;
	struct proc_stat s;

	fd = (int)syscall(SYS_pidfd_open, id->pid, 0);
	if (fd < 0)
		return err_errno(err, errno, "pidfd_open of process %d", id->pid);
	/* The descriptor pins whatever has the pid now: look only then whether it is the one. */
	if (proc_read_stat(id->pid, &s, NULL) < 0 || s.id.start_ticks != id->start_ticks)
		return err_set(err, ESRCH, "process %d is gone (its pid may be another's now)",
			id->pid);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int proc_signal(const struct proc_id *id, int signal, struct err **err)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = proc_pidfd(id, &fd, err);
	if (r < 0)
		return r;
	if (syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) < 0)
		return err_errno(err, errno, "send signal %d to process %d", signal, id->pid);
	return 0;
}

/* A directory entry that is a number, or 0. */
static pid_t entry_pid(const struct dirent *entry)
{
	char *end;
	long n;

	if (!isdigit((unsigned char)entry->d_name[0]))
		return 0;
	errno = 0;
	n = strtol(entry->d_name, &end, 10);
	return *end || errno || n > INT_MAX ? 0 : (pid_t)n;
}

/* Room for one more of `size` bytes, doubling. */
static int grow(void **array, size_t count, size_t *room, size_t size, struct err **err)
{
	size_t want = *room ? *room * 2 : 64;
	void *more;

	if (count < *room)
		return 0;
	more = reallocarray(*array, want, size);
	if (!more)
		return err_errno(err, ENOMEM, "list processes");
	*array = more;
	*room = want;
	return 0;
}

static int list_pids(const char *path, pid_t **ret, size_t *ret_count, struct err **err)
{
	_cleanup_(closedirp) DIR *dir = opendir(path);
	_cleanup_free_ pid_t *pids = NULL;
	size_t count = 0, room = 0;
	struct dirent *entry;
	int r;

	if (!dir)
		return err_errno(err, gone(errno), "open %s", path);
	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		pid_t pid = entry_pid(entry);

		if (pid <= 0)
			continue;
		r = grow((void **)&pids, count, &room, sizeof(*pids), err);
		if (r < 0)
			return r;
		pids[count++] = pid;
	}
	if (errno)
		return err_errno(err, gone(errno), "read %s", path);
	*ret = steal_ptr(pids);
	*ret_count = count;
	return 0;
}

int proc_pids(pid_t **ret, size_t *ret_count, struct err **err)
{
	return list_pids("/proc", ret, ret_count, err);
}

int proc_threads(pid_t pid, pid_t **ret, size_t *ret_count, struct err **err)
{
	char path[PROC_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	return list_pids(path, ret, ret_count, err);
}

int proc_list(struct proc_stat **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ pid_t *pids = NULL;
	_cleanup_free_ struct proc_stat *list = NULL;
	size_t n = 0, count = 0;
	int r;

	r = proc_pids(&pids, &n, err);
	if (r < 0)
		return r;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_errno(err, ENOMEM, "list processes");
	for (size_t i = 0; i < n; i++)
		if (proc_read_stat(pids[i], &list[count], NULL) == 0)
			count++;
	*ret = steal_ptr(list);
	*ret_count = count;
	return 0;
}

int proc_tree(pid_t root, struct proc_id **ret, size_t *ret_count, struct err **err)
{
	_cleanup_free_ struct proc_stat *all = NULL;
	_cleanup_free_ struct proc_id *tree = NULL;
	size_t n, count = 0;
	int r;

	r = proc_list(&all, &n, err);
	if (r < 0)
		return r;
	tree = calloc(n + 1, sizeof(*tree));
	if (!tree)
		return err_errno(err, ENOMEM, "list processes");
	for (size_t i = 0; i < n && count == 0; i++)
		if (all[i].id.pid == root)
			tree[count++] = all[i].id;
	if (count == 0)
		return err_set(err, ESRCH, "process %d is gone", root);
	/* Breadth first; a process enters once, since pid 0 as its parent marks it as taken. */
	for (size_t parent = 0; parent < count; parent++)
		for (size_t i = 0; i < n; i++)
			if (all[i].ppid == tree[parent].pid && all[i].id.pid != root) {
				all[i].ppid = 0;
				tree[count++] = all[i].id;
			}
	*ret = steal_ptr(tree);
	*ret_count = count;
	return 0;
}

bool proc_has_capability(unsigned capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capget, &header, data) == 0 && (data[0].effective >> capability & 1);
}
