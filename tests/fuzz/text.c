/* Lines of an instance's files, of its mounts, and words of a request. The first byte chooses the parser. */
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "core/peer.h"
#include "core/units.h"
#include "instance/postmaster_file.h"
#include "instance/settings.h"
#include "kernel/mountinfo.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

static void try_setting(const char *text)
{
	struct setting_line l = {0};

	if (setting_line_parse(text, &l) > 0 && (!l.name || !l.value))
		abort();
	setting_line_done(&l);
	setting_bool(text);
}

static void try_postmaster_file(const char *text)
{
	struct postmaster_file f = {0};

	if (postmaster_file_parse(text, &f, NULL) == 0)
		postmaster_file_done(&f);
}

static void try_mount(const char *text)
{
	_cleanup_(mount_entry_done) struct mount_entry m = {0};

	if (mount_parse(text, &m, NULL) == 0 && (!m.point || !m.type || !m.source))
		abort();
}

/* What is written is read as the same. */
static void try_peer(const char *text)
{
	_cleanup_free_ char *first = NULL, *second = NULL;
	struct peer p = {0}, again = {0};

	if (peer_parse(text, &p, NULL) < 0)
		return;
	first = peer_format(&p);
	if (!first || peer_parse(first, &again, NULL) < 0)
		abort();
	second = peer_format(&again);
	if (!second || strcmp(first, second) != 0)
		abort();
	peer_done(&p);
	peer_done(&again);
}

static void try_units(const char *text)
{
	char buf[UNITS_TEXT_MAX];
	uint64_t value, again;
	uint32_t ppm, ppm_again;

	if (duration_parse(text, &value, NULL) == 0 &&
		(duration_parse(duration_format(value, buf), &again, NULL) < 0 || again != value))
		abort();
	if (bytes_parse(text, &value, NULL) == 0 &&
		(bytes_parse(bytes_format(value, buf), &again, NULL) < 0 || again != value))
		abort();
	if (rate_parse(text, &value, NULL) == 0 &&
		(rate_parse(rate_format(value, buf), &again, NULL) < 0 || again != value))
		abort();
	if (percent_parse(text, &ppm, NULL) == 0 &&
		(percent_parse(percent_format(ppm, buf), &ppm_again, NULL) < 0 || ppm_again != ppm))
		abort();
}

static void try_conninfo(const char *text)
{
	_cleanup_free_ char *value = conninfo_find(text, "sslrootcert");

	(void)value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parsers[])(const char *text) = {try_setting, try_postmaster_file, try_mount,
		try_peer, try_units, try_conninfo};
	_cleanup_free_ char *text = NULL;

	if (size < 1)
		return 0;
	text = calloc(1, size);
	if (!text)
		abort();
	memcpy(text, data + 1, size - 1);
	parsers[data[0] % ELEMENTS(parsers)](text);
	return 0;
}
