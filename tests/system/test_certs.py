#!/usr/bin/python3
"""pgjolt certs, on an API server of our own: what it makes, how it renews, what it refuses. openssl judges the certificates."""
# labels: quick
import base64
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
import yaml  # noqa: E402
from agent import BUILD, wait_until  # noqa: E402
from certificates import Authority  # noqa: E402
from kube_api import KubeApi  # noqa: E402

PGJOLT = os.path.abspath(os.path.join(BUILD, "coordinator", "pgjolt"))
AGENT, CLIENT, METRICS = SECRETS = "pgjolt-agent-tls", "pgjolt-client-tls", "pgjolt-metrics-tls"
KEYS = ("ca.crt", "tls.crt", "tls.key")
folder = api = config = None


def setUpModule():
    global folder, api, config
    folder = tempfile.mkdtemp(prefix="pj-certs-")
    authority = Authority(os.path.join(folder, "tls"))
    authority.openssl("api", "/CN=api", "-CA", authority.path("ca.crt"), "-CAkey", authority.path("ca.key"),
                      "-addext", "subjectAltName=IP:127.0.0.1")
    api = KubeApi(authority.path("api.crt"), authority.path("api.key"))
    config = api.kubeconfig(os.path.join(folder, "config"), authority.path("ca.crt"))


def tearDownModule():
    api.stop()
    shutil.rmtree(folder)


def certs(*words, code=0, cluster=True):
    """stdout and stderr; no key is in either, unless it printed the Secrets."""
    more = ["--kubeconfig", config] if cluster else []
    r = subprocess.run([PGJOLT, "certs", *words, *more], capture_output=True, text=True, timeout=60, check=False,
                       env={"PATH": os.environ["PATH"], "HOME": folder})
    assert r.returncode == code, f"{words}: {r.returncode}, not {code}\n{r.stdout}{r.stderr}"
    assert "PRIVATE" not in r.stderr and ("--apply" not in words or "PRIVATE" not in r.stdout), r.stdout + r.stderr
    return r.stdout, r.stderr


def openssl(*words, text, code=0):
    r = subprocess.run(["openssl", *words], input=text, capture_output=True, text=True, timeout=20, check=False)
    assert r.returncode == code, f"openssl {words}: {r.stdout}{r.stderr}"
    return r.stdout


def pems(text):
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", text, re.S)


def secret(name, space="pgjolt"):
    item = api.objects["secrets"][(space, name)]
    return {key: base64.b64decode(item["data"][key]).decode() for key in KEYS}


def trusts(ca, certificate):
    """Is it signed by one of these, as who connects would judge?"""
    path = os.path.join(folder, "trusted.pem")
    with open(path, "w", encoding="ascii") as f:
        f.write(ca)
    r = subprocess.run(["openssl", "verify", "-CAfile", path], input=certificate, capture_output=True, text=True, timeout=20,
                       check=False)
    return r.returncode == 0


def written():
    return [(method, path.rsplit("/", 1)[-1]) for method, path in api.calls if method in ("POST", "PATCH")]


class Certs(unittest.TestCase):
    def setUp(self):
        api.objects["secrets"].clear()
        api.calls.clear()
        api.refused.clear()

    def check_all(self, agent, client, metrics):
        """Each has the key to its certificate, one CA signed all, and each serves for its end alone."""
        for one, purpose, other in ((agent, "sslserver", "sslclient"), (client, "sslclient", "sslserver"),
                                    (metrics, "sslclient", "sslserver")):
            self.assertEqual(openssl("x509", "-noout", "-pubkey", text=one["tls.crt"]),
                             openssl("pkey", "-pubout", text=one["tls.key"]))
            self.assertTrue(trusts(one["ca.crt"], one["tls.crt"]))
            with open(os.path.join(folder, "ca.pem"), "w", encoding="ascii") as f:
                f.write(one["ca.crt"])
            openssl("verify", "-CAfile", f.name, "-purpose", purpose, text=one["tls.crt"])
            openssl("verify", "-CAfile", f.name, "-purpose", other, text=one["tls.crt"], code=2)
        self.assertEqual((agent["ca.crt"],) * 2, (client["ca.crt"], metrics["ca.crt"]))
        self.assertIn("DNS:pgjolt-agent", openssl("x509", "-noout", "-ext", "subjectAltName", text=agent["tls.crt"]))
        for one, name in ((client, "pgjolt-client"), (metrics, "pgjolt-metrics")):
            self.assertRegex(openssl("x509", "-noout", "-subject", text=one["tls.crt"]), f"CN = {name}\n")

    def test_printed(self):
        """No cluster is needed; kubectl takes what is printed."""
        out, _ = certs("--agents-namespace", "elsewhere", "--days", "2", cluster=False)
        documents = list(yaml.safe_load_all(out))
        self.assertEqual([(d["kind"], d["type"], d["metadata"]["name"], d["metadata"]["namespace"]) for d in documents],
                         [("Secret", "kubernetes.io/tls", name, "elsewhere") for name in SECRETS])
        agent, client, metrics = (d["stringData"] for d in documents)
        self.assertEqual(set(agent), set(KEYS))
        self.check_all(agent, client, metrics)
        openssl("x509", "-noout", "-checkend", str(47 * 3600), text=agent["tls.crt"])
        openssl("x509", "-noout", "-checkend", str(49 * 3600), text=agent["tls.crt"], code=1)
        self.assertIn("namespace: pgjolt\n", certs(cluster=False)[0])
        self.assertEqual(api.calls, [])

    def test_first_making(self):
        out, _ = certs("--apply")
        self.check_all(*map(secret, SECRETS))
        self.assertEqual(len(pems(secret(AGENT)["ca.crt"])), 1)
        self.assertEqual(written(), [("POST", "secrets")] * 3)
        item = api.objects["secrets"][("pgjolt", AGENT)]
        self.assertEqual((item["type"], item["metadata"]["labels"]), ("kubernetes.io/tls", {"app.kubernetes.io/name": "pgjolt"}))
        end = openssl("x509", "-noout", "-enddate", "-dateopt", "iso_8601", text=secret(AGENT)["tls.crt"])
        self.assertIn(f"in namespace pgjolt, valid until {end.split('=')[1][:10]}.", out)
        # A second time nothing is touched, printed or not.
        for words in (("--apply",), ("--renew", "--apply", "--agents-namespace", "elsewhere")):
            before = dict(api.objects["secrets"])
            _, err = certs(*words, code=3)
            self.assertRegex(err, "is there already: renew it with --renew|is not there: nothing to renew")
            self.assertEqual(api.objects["secrets"], before)
        certs("--apply", "--agents-namespace", "elsewhere")
        self.check_all(*(secret(name, "elsewhere") for name in SECRETS))

    def test_renewal_in_its_steps(self):
        certs("--apply")
        old = [secret(name) for name in SECRETS]
        api.objects["secrets"][("pgjolt", CLIENT)]["type"] = "Opaque"   # a Secret's type cannot be changed
        api.calls.clear()
        seen = []

        def note(method, _, name):
            if method == "PATCH" and name == AGENT:     # what was there before each step
                seen.append([secret(name) for name in SECRETS])
        api.before_change = note
        try:
            out, err = certs("--renew", "--apply", "--wait", "100ms")
        finally:
            api.before_change = None
        self.assertEqual(written(), [("PATCH", name) for name in SECRETS] * 3)
        self.assertRegex(err, r"(?s)step 1 of 3: the new CA .* in 100.?ms.*step 2 of 3: the new cert.*step 3 of 3: the old CA")
        self.assertIn("valid until", out)
        new = [secret(name) for name in SECRETS]
        self.check_all(*new)
        self.assertEqual(api.objects["secrets"][("pgjolt", CLIENT)]["type"], "Opaque")
        self.assertEqual(seen[0], old)
        first, second = seen[1], seen[2]
        for i in range(3):
            # Both CAs and the old pair, both CAs and the new pair, the new CA alone.
            self.assertEqual(first[i]["ca.crt"], new[i]["ca.crt"] + old[i]["ca.crt"])
            self.assertEqual((first[i]["tls.crt"], first[i]["tls.key"]), (old[i]["tls.crt"], old[i]["tls.key"]))
            self.assertEqual(second[i], {**new[i], "ca.crt": first[i]["ca.crt"]})
            self.assertFalse(trusts(new[i]["ca.crt"], old[i]["tls.crt"]))
        # Whoever has one step's files and meets who has the next one's trusts him, and is trusted.
        steps = [old, first, second, new]
        for a, b in zip(steps, steps[1:]):
            for x, y in ((a, b), (b, a)):
                for caller in (1, 2):
                    self.assertTrue(trusts(x[0]["ca.crt"], y[caller]["tls.crt"]))
                    self.assertTrue(trusts(x[caller]["ca.crt"], y[0]["tls.crt"]))

    def test_renewal_of_what_had_no_metrics_yet(self):
        """What versions before made: the third Secret comes with the new certificates, and only a renewal may lack it."""
        certs("--apply")
        del api.objects["secrets"][("pgjolt", METRICS)]
        api.calls.clear()
        certs("--renew", "--apply", "--wait", "1ms")
        pair, all_three = [("PATCH", AGENT), ("PATCH", CLIENT)], [("PATCH", name) for name in SECRETS]
        self.assertEqual(written(), pair + pair + [("POST", "secrets")] + all_three)
        self.check_all(*map(secret, SECRETS))
        del api.objects["secrets"][("pgjolt", CLIENT)]
        _, err = certs("--renew", "--apply", code=3)
        self.assertIn(f"Secret pgjolt/{CLIENT} is not there: nothing to renew", err)

    def test_renewal_printed(self):
        """For who writes to the cluster by other means: both CAs are trusted."""
        certs("--apply")
        old = secret(AGENT)
        out, _ = certs("--renew")
        agent, client, metrics = (d["stringData"] for d in yaml.safe_load_all(out))
        self.check_all(agent, client, metrics)
        self.assertEqual(pems(agent["ca.crt"])[1:], pems(old["ca.crt"]))
        self.assertEqual(secret(AGENT), old)

    def test_renewal_that_was_broken_off(self):
        """Interrupted while it waits, it can be done again, and in between nobody was refused."""
        certs("--apply")
        old = [secret(name) for name in SECRETS]
        p = subprocess.Popen([PGJOLT, "certs", "--renew", "--apply", "--wait", "60s", "--kubeconfig", config],
                             stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(p.stderr.readline, "")))
        reader.start()
        try:
            self.assertTrue(wait_until(lambda: any("step 1 of 3" in line for line in lines), 30), lines)
        finally:
            p.terminate()
            p.wait(20)
            reader.join()
            p.stderr.close()
        half = [secret(name) for name in SECRETS]
        self.assertTrue(trusts(half[0]["ca.crt"], old[1]["tls.crt"]) and half[0]["tls.crt"] == old[0]["tls.crt"])
        certs("--renew", "--apply", "--wait", "1ms")
        self.check_all(*map(secret, SECRETS))
        self.assertEqual(len(pems(secret(AGENT)["ca.crt"])), 1)

    def test_of_cert_manager(self):
        for name in (AGENT, CLIENT):
            api.put("secrets", name, "pgjolt", data={},
                    annotations={"cert-manager.io/certificate-name": "pgjolt-agent"} if name == AGENT else {})
        for words in ((), ("--renew",)):
            _, err = certs("--apply", *words, code=3)
            self.assertIn(f"Secret pgjolt/{AGENT} is made and renewed by cert-manager", err)
        self.assertEqual(written(), [])

    def test_damaged_secrets(self):
        certs("--apply")
        good = dict(api.objects["secrets"][("pgjolt", CLIENT)])
        for key in KEYS:
            for data, said in (({k: v for k, v in good["data"].items() if k != key}, f'Secret {CLIENT} has no "{key}"'),
                               ({**good["data"], key: 7}, f'Secret {CLIENT} has no "{key}"'),
                               ({**good["data"], key: "s3cr=t!"}, f"Secret {CLIENT}: {key}: ")):
                api.objects["secrets"][("pgjolt", CLIENT)] = {**good, "data": data}
                api.calls.clear()
                _, err = certs("--renew", "--apply", code=2)
                self.assertIn(said, err)
                self.assertNotIn("s3cr", err)
                self.assertEqual(written(), [])
        # A CA that is no certificate is trusted by nobody, so it need not be kept.
        api.objects["secrets"][("pgjolt", CLIENT)] = {**good, "data": {**good["data"], "ca.crt": "bm9uZQ=="}}
        certs("--renew", "--apply", "--wait", "1ms")
        self.check_all(*map(secret, SECRETS))

    def test_refused_by_the_server(self):
        for method, name, words in (("POST", AGENT, ()), ("POST", CLIENT, ()), ("PATCH", CLIENT, ("--renew", "--wait", "1ms"))):
            api.objects["secrets"].clear()
            api.refused.clear()
            if words:
                certs("--apply")
            api.refused.add((method, name))
            _, err = certs("--apply", *words, code=3)
            self.assertIn(f"Secret pgjolt/{name}: ", err)
            self.assertIn(f"{method} secrets is forbidden", err)

    def test_a_secret_that_cannot_be_read_is_not_one_that_is_not_there(self):
        certs("--apply")
        before = dict(api.objects["secrets"])
        for words in ((), ("--renew", "--wait", "1ms")):
            api.calls.clear()
            api.fail_once[f"/api/v1/namespaces/pgjolt/secrets/{CLIENT}"] = "etcd has no leader"
            _, err = certs("--apply", *words, code=4)
            self.assertIn(f"Secret pgjolt/{CLIENT}: ", err)
            self.assertIn("etcd has no leader", err)
            self.assertEqual((written(), api.objects["secrets"]), ([], before))

    def test_without_the_server(self):
        api.stop()
        try:
            for words in (("--apply",), ("--renew",), ("--renew", "--apply")):
                _, err = certs(*words, code=3)
                self.assertRegex(err, "127.0.0.1|refused")
        finally:
            api.start()
        _, err = certs("--apply", "--context", "none", code=2)
        self.assertIn("none", err)
        for days in ("0", "3651", "-1", "x"):
            self.assertIn("--days", certs("--days", days, code=2)[1])


if __name__ == "__main__":
    if not shutil.which("openssl") or not os.path.exists(PGJOLT):
        print("needs openssl and pgjolt")
        sys.exit(77)
    unittest.main(verbosity=2)
