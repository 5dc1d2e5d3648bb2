/* A certificate of an instance's, remade in each way. The first byte chooses: how, all or the
 * first, and whether PEM or the bytes in it follow. */
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include "core/cleanup.h"
#include "fault/certificate.h"
#include "fuzz.h"

#define NOW_S 1800000000U
#define TEXT  8

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

/* NUL-terminated, as root_read() gives it; NULL: that would not. */
static char *text_of(const uint8_t *data, size_t size)
{
	gnutls_datum_t der = {(unsigned char *)data, (unsigned)size}, pem = {0};
	char *text;

	if (gnutls_pem_base64_encode2("CERTIFICATE", &der, &pem) < 0)
		return NULL;
	text = strndup((const char *)pem.data, pem.size);
	gnutls_free(pem.data);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(certificate_text_freep) char *text = NULL, *remade = NULL;
	_cleanup_(certificate_report_done) struct certificate_report report = {0};
	_cleanup_err_ struct err *err = NULL;
	struct certificate_order order = {.now_s = NOW_S, .by_s = 3600};
	size_t length = 0;

	if (size < 2)
		return 0;
	if (data[0] & TEXT)
		text = strndup((const char *)data + 1, size - 1);
	else
		text = text_of(data + 1, size - 1);
	if (!text)
		return 0;
	order.change = (enum certificate_change)(data[0] & 3);
	order.every = data[0] & 4;
	if (certificate_remake(text, strlen(text), &order, &remade, &length, &report, &err) < 0)
		return 0;
	if (strlen(remade) != length || report.count == 0)
		abort();
	return 0;
}
