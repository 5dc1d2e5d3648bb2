#include "core/catalogue.h"

#include <string.h>

#define SECOND 1000000000ULL
#define YEAR   (365 * 24 * 3600 * SECOND)

enum mode { EXPIRED, NOT_YET_VALID, UNTRUSTED, WRONG_HOST, UNREADABLE };
enum file { SERVER, CA, CLIENT };

static const char *const mode_choices[] = {"expired", "not-yet-valid", "untrusted", "wrong-host",
	"unreadable", NULL};
static const char *const file_choices[] = {"server", "ca", "client", NULL};

static const struct param_spec params[] = {
	{.name = "mode", .type = PARAM_ENUM, .required = true, .choices = mode_choices,
		.help = "expired, not-yet-valid: the dates are moved, the rest is as before. untrusted: "
			"signed by a CA that nobody knows. wrong-host: for another name. "
			"unreadable: the file has no permission left."},
	{.name = "file", .type = PARAM_ENUM, .fallback = "server", .choices = file_choices,
		.help = "server: the server's certificate (ssl_cert_file). ca: what client certificates "
			"are checked against (ssl_ca_file). client: what the instance shows to its primary "
			"(sslcert of primary_conninfo, or ~/.postgresql/postgresql.crt)."},
	{.name = "by", .type = PARAM_DURATION, .fallback = "1h", .min = SECOND, .max = 10 * YEAR,
		.help = "How long ago it expired, or how long until it becomes valid."},
	{.name = "path", .type = PARAM_TEXT,
		.help = "The file, as the instance sees it, where its settings do not tell it."},
	{.name = "ca-key", .type = PARAM_TEXT,
		.help = "A file on the agent's node with the private key of the CA that signed the present "
			"certificate. Then clients that verify see just what is asked for. Empty: not at hand."},
};

static const struct fault_example examples[] = {
	{"tls-cert --target lab/pg1 --for 1m --mode expired --ca-key /run/pgjolt-lab/lab/ca.key",
		"The server's certificate expired an hour ago."},
	{"tls-cert --target prod/pg-0 --for 1m --mode untrusted",
		"A certificate of another CA, as after a botched rotation."},
	{"tls-cert --target prod/pg-1 --for 5m --mode expired --file client",
		"A replica whose client certificate the primary will not take again."},
	{"tls-cert --target prod/pg-0 --for 1m --mode not-yet-valid --file ca --by 24h",
		"The server trusts no client certificate until tomorrow."},
	{"tls-cert --target prod/pg-0 --for 1m --mode unreadable --path /etc/tls/tls.crt",
		"The certificate cannot be read when PostgreSQL loads it again."},
};

static int check_path(const struct params *p, const char *name, struct err **err)
{
	const char *path = params_text(p, name);

	if (path && path[0] && path[0] != '/')
		return err_set(err, -EINVAL, "%s: \"%.64s\" is no absolute path", name, path);
	return 0;
}

static int check(const struct params *p, struct err **err)
{
	enum mode mode = (enum mode)params_number(p, "mode");
	bool ca = params_number(p, "file") == CA;
	const char *key = params_text(p, "ca-key");
	int r;

	if (ca && mode == WRONG_HOST)
		return err_set(err, -EINVAL, "mode: a CA's certificate names no host: wrong-host is for "
					     "file server and client");
	if (key && key[0] && (ca || mode == UNTRUSTED || mode == UNREADABLE))
		return err_set(err, -EINVAL, "ca-key: is for file server and client with mode expired, "
					     "not-yet-valid and wrong-host");
	r = check_path(p, "path", err);
	return r < 0 ? r : check_path(p, "ca-key", err);
}

const struct fault_spec fault_tls_cert = {
	.name = "tls-cert",
	.summary = "Show an instance a certificate that is wrong",
	.description =
		"In the instance's own view one file has another content for the fault's time: the "
		"certificate that is there, with the dates, the signature or the name changed. "
		"Key, serial number and all else stay; the private key is never read. The file below, on "
		"the volume or in the Secret, is never touched, and no other container sees the "
		"change.\n\n"
		"file server and ca: the postmaster is told to load it (SIGHUP) when the fault fires, and "
		"again at its end. It then reads all of its configuration files: a change that waits "
		"there takes effect too. After an agent was killed the next one tells it once in any case, even if "
		"the fault was armed only: whether the postmaster has the wrong file loaded cannot be seen from "
		"outside, and one reload too many is better than one too few. Sessions go on; new ones meet the new file. file client: each new "
		"connection to the primary reads it; the present one goes on, so combine it with "
		"conn-reset to see it at once. A file of several certificates: of server and client the "
		"first is changed, of ca all.\n\n"
		"What a client sees. sslmode disable to require look at nothing and connect, but for "
		"require with a root certificate there, which is verify-ca. verify-ca and verify-full refuse; "
		"psql says \"certificate verify failed\", OpenSSL why. With ca-key: \"certificate has "
		"expired\", \"certificate is not yet valid\", or, with verify-full "
		"alone, that the name does not match. Without ca-key the changed certificate still "
		"names its CA but has no signature of it, and OpenSSL, so libpq too, stops at "
		"the signature before it looks at dates and names; Go's clients look at "
		"dates first and say expired. untrusted: \"unable to get local issuer certificate\". A "
		"certificate that is its own CA (self-signed) fails as \"self-signed certificate\", or as "
		"one without a signature. ca: OpenSSL takes a root's dates as they are, and the server "
		"refuses every client certificate as expired; clients without one do not notice.\n\n"
		"unreadable: PostgreSQL keeps what it has loaded and logs \"SSL configuration was not "
		"reloaded\"; it does not start again until the end. A replica cannot connect with an "
		"unreadable client certificate.\n\n"
		"hits counts how often the file was opened while it was in place; for unreadable, which "
		"nobody opens, it is 1 while it is in place. Whether clients then failed is not seen from "
		"here.\n\n"
		"A file that somebody replaces meanwhile (a renewal) is the new one at once, and the "
		"fault has ended for it; the evidence then says in_place: false.",
	.mechanism =
		"The settings are read as PostgreSQL does: postgresql.conf and what it includes, "
		"postgresql.auto.conf, the command line. The new content is in a tmpfs of its own, with "
		"the owner and mode of the file, and never on a disk. One move_mount(2) in the "
		"instance's mount namespace puts it over the file that the path leads to, at the end of "
		"all links. The end unmounts exactly that mount, wherever it is by then.",
	.needs =
		"Linux 5.2, CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE and CAP_KILL. A mount namespace "
		"that is the instance's own; the mount below must not be shared with "
		"another namespace. ssl = on, unless path is given.",
	.leaves =
		"The mount, in the instance's mount namespace, until an agent starts again and reverts what "
		"its journal names, or the container ends. A restart of PostgreSQL does not end it. "
		"A process that meanwhile makes a mount namespace in a user namespace of its own (unshare -Um) "
		"has a copy there that the kernel lets nobody remove: it goes with that process, and "
		"nobody else sees it. "
		"The journal has no certificate and no key.",
	.lifetime = LIFETIME_JOURNALED,
	CATALOGUE_LISTS,
	.check = check,
};
