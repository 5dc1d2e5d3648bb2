"""A Kubernetes API server of a test's own, over TLS: lists and watches of what the test puts there, TokenReview and
SubjectAccessReview by two tables; Leases, Secrets and ConfigMaps that callers write.

    api = KubeApi(certificate, key)
    api.users["token"] = "system:serviceaccount:db:me"
    api.rights.add(("system:serviceaccount:db:me", "create", "db"))
    api.put("namespaces", "db", labels={"pgjolt.io/enabled": "true"})
    api.stop(); api.start()     # away, and back on the same port
"""
import base64
import json
import queue
import socket
import ssl
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGENT_TOKEN = "token-of-the-agent"
API_AUDIENCE = "https://kubernetes.default.svc"


def matches(item, query):
    meta = item["metadata"]
    field = query.get("fieldSelector", [""])[0]
    if field.startswith("metadata.name=") and meta["name"] != field.split("=", 1)[1]:
        return False
    if field.startswith("spec.nodeName=") and item.get("spec", {}).get("nodeName") != field.split("=", 1)[1]:
        return False
    labels = [w.split("=", 1) for w in query.get("labelSelector", [""])[0].split(",") if w]
    return all(meta.get("labels", {}).get(key) == value for key, value in labels)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True      # else an answer in two parts waits for an acknowledgement

    def log_message(self, *_):
        pass

    def setup(self):
        self.server.api.connections.add(self.request)
        super().setup()

    def finish(self):
        self.server.api.connections.discard(self.request)
        super().finish()

    def answer(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def check(self):
        """The agent shows its own token, never a caller's."""
        if self.headers.get("Authorization") == f"Bearer {AGENT_TOKEN}":
            return True
        self.answer(401, {"kind": "Status", "status": "Failure", "code": 401, "message": "Unauthorized"})
        return False

    def do_GET(self):
        api = self.server.api
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        api.calls.append(("GET", url.path))
        if not self.check():
            return
        if url.path in api.fail_once:
            self.fail(500, api.fail_once.pop(url.path))
            return
        space, kind, name = self.place(url.path)
        if kind not in api.objects:
            self.answer(404, {"kind": "Status", "status": "Failure", "code": 404, "message": f"no {kind}"})
            return
        if name:
            item = api.objects[kind].get((space, name))
            self.answer(200, item) if item else self.missing(name)
            return
        if "watch" in query:
            self.watch(kind, space, query)
            return
        with api.lock:
            items = [o for o in api.objects[kind].values() if self.in_scope(o, space) and matches(o, query)]
            meta = {"resourceVersion": str(api.version)}
        self.answer(200, {"kind": "List", "metadata": meta, "items": self.page(items, query, meta)})

    @staticmethod
    def page(items, query, meta):
        """In the order of their names, as the real one; continue is the last one's before."""
        def key(item):
            return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
        limit, last = int(query.get("limit", ["0"])[0]), query.get("continue", [""])[0]
        if not last and not 0 < limit < len(items):
            return items
        items = sorted((o for o in items if key(o) > last), key=key)
        if 0 < limit < len(items):
            items = items[:limit]
            meta["continue"] = key(items[-1])
        return items

    def missing(self, name):
        self.fail(404, f"{name} not found")

    def fail(self, status, message):
        self.answer(status, {"kind": "Status", "status": "Failure", "code": status, "message": message})

    @staticmethod
    def place(path):
        """/api/v1/namespaces/NS/pods/NAME, /apis/GROUP/v1/...: namespace, kind, name."""
        parts = path.strip("/").split("/")
        parts = parts[3:] if parts[0] == "apis" else parts[2:]
        if len(parts) > 2 and parts[0] == "namespaces":
            return parts[1], parts[2], parts[3] if len(parts) > 3 else None
        return None, parts[0], parts[1] if len(parts) > 1 else None

    def change(self, method):
        """Leases and ConfigMaps are changed by their versions; Secrets and ConfigMaps are made and merged."""
        api = self.server.api
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        api.calls.append((method, self.path))
        if not self.check():
            return
        space, kind, name = self.place(self.path)
        if api.before_change:
            api.before_change(method, space, name or body["metadata"]["name"])
        if kind in ("secrets", "configmaps") and method in ("POST", "PATCH"):
            self.write(method, kind, space, name, body)
            return
        if kind not in ("leases", "configmaps") or method == "PATCH" or method == "POST" and name:
            self.fail(403, f"{method} {kind} is forbidden")
            return
        with api.lock:
            known = api.objects[kind].get((space, name or body["metadata"]["name"]))
            wanted = body.get("preconditions" if method == "DELETE" else "metadata", {}).get("resourceVersion")
            if method == "POST" and known:
                self.fail(409, "already exists")
            elif method != "POST" and not known:
                self.missing(name)
            elif method != "POST" and wanted != known["metadata"]["resourceVersion"]:
                self.fail(409, "the object has been modified")
            elif method == "DELETE":
                api.delete(kind, name, space)
                self.answer(200, {"kind": "Status", "status": "Success"})
            else:
                meta = body["metadata"]
                rest = {key: body[key] for key in ("spec", "data") if key in body}
                api.put(kind, meta["name"], space, meta.get("labels"), meta.get("annotations"), **rest)
                self.answer(200, api.objects[kind][(space, meta["name"])])

    def write(self, method, kind, space, name, body):
        api = self.server.api
        with api.lock:
            known = api.objects[kind].get((space, name or body["metadata"]["name"]))
            if (method, name or body["metadata"]["name"]) in api.refused:
                self.fail(403, f"{method} {kind} is forbidden")
            elif method == "POST" and known:
                self.fail(409, "already exists")
            elif method == "PATCH" and not known:
                self.missing(name)
            else:
                meta = body["metadata"]
                text = {key: base64.b64encode(value.encode()).decode() for key, value in body.get("stringData", {}).items()}
                merged = {**(known or {}).get("data", {}), **body.get("data", {}), **text}
                more = {"type": body["type"]} if "type" in body else {}
                api.put(kind, meta["name"], space, meta.get("labels"), data={k: v for k, v in merged.items() if v is not None},
                        **more)
                self.answer(200, api.objects[kind][(space, meta["name"])])

    def do_PUT(self):
        self.change("PUT")

    def do_PATCH(self):
        self.change("PATCH")

    def do_DELETE(self):
        self.change("DELETE")

    @staticmethod
    def in_scope(item, space):
        return space is None or item["metadata"].get("namespace") == space

    def watch(self, kind, space, query):
        api, events = self.server.api, queue.Queue()
        since = int(query["resourceVersion"][0])
        with api.lock:
            for event in api.history:
                if event[0] > since:
                    events.put(event)
            api.watchers.append(events)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        shown = set()
        with api.lock:
            for event in api.history:
                if event[0] <= since and event[1] == kind:
                    (shown.add if event[2] != "DELETED" and matches(event[3], query) else shown.discard)(
                        event[3]["metadata"]["uid"])
        try:
            while True:
                event = events.get()
                if event is None:
                    return
                _, what, change, item = event
                if what != kind or not self.in_scope(item, space):
                    continue
                uid, fits = item["metadata"]["uid"], matches(item, query)
                # As the real one: what no longer fits the selector is deleted for who selects.
                change = "DELETED" if change == "DELETED" or not fits else change
                if change == "DELETED" and uid not in shown:
                    continue
                (shown.discard if change == "DELETED" else shown.add)(uid)
                line = json.dumps({"type": change, "object": item}).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        except OSError:
            pass
        finally:
            api.watchers.remove(events)
            self.close_connection = True

    def review(self, spec):
        """As the real one: without audiences asked for, the token must be for the API server."""
        api = self.server.api
        user, wanted = api.users.get(spec["token"]), spec.get("audiences") or [API_AUDIENCE]
        if not user:
            return {"authenticated": False, "error": "token has expired"}
        of_token = api.audiences.get(spec["token"], [API_AUDIENCE])
        both = [a for a in wanted if a in of_token]
        if api.knows_audiences and not both:
            return {"authenticated": False, "error": f"token audiences {of_token} is invalid for the target audiences {wanted}"}
        return {"authenticated": True, **({"audiences": both} if api.knows_audiences else {}), "user": {
            "username": user, "uid": "u-" + user, "groups": ["system:serviceaccounts"], "extra": {"x": ["y"]}}}

    def do_POST(self):
        api = self.server.api
        if self.place(self.path)[1] in ("leases", "secrets", "configmaps"):
            self.change("POST")
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api.calls.append(("POST", self.path))
        if not self.check():
            return
        api.answer_after.wait(10)
        if self.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            body["status"] = self.review(body["spec"])
        elif self.path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
            spec = body["spec"]
            what = spec["resourceAttributes"]
            assert (what["group"], what["resource"]) == ("pgjolt.io", "faults"), what
            assert spec["groups"] == ["system:serviceaccounts"] and spec["extra"] == {"x": ["y"]}, spec
            allowed = (spec["user"], what["verb"], what["namespace"]) in api.rights
            body["status"] = {"allowed": allowed, "reason": "RBAC: allowed by RoleBinding \"drills\"" if allowed else ""}
        else:
            self.answer(404, {"kind": "Status", "status": "Failure", "code": 404, "message": "no such path"})
            return
        self.answer(201, body)


class KubeApi:
    token = AGENT_TOKEN

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key
        self.lock = threading.RLock()
        self.users, self.rights, self.calls = {}, set(), []
        self.audiences, self.knows_audiences = {}, True     # of tokens; of the server
        self.objects = {"namespaces": {}, "pods": {}, "configmaps": {}, "leases": {}, "nodes": {}, "secrets": {},
                        "statefulsets": {}, "services": {}, "endpointslices": {}, "events": {}}
        self.before_change, self.refused = None, set()  # such as ("PATCH", "pgjolt-agent-tls")
        self.fail_once = {}     # of GET: message by path
        self.version, self.history, self.watchers = 100, [], []
        self.answer_after = threading.Event()
        self.answer_after.set()
        self.port, self.server, self.connections = 0, None, set()
        self.start()

    def start(self):
        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            block_on_close = False

            def handle_error(self, *_):
                pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        self.server = Server(("127.0.0.1", self.port), Handler, bind_and_activate=False)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.server_bind()
        self.server.server_activate()
        self.server.api = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        for events in list(self.watchers):
            events.put(None)
        for connection in list(self.connections):   # those that are kept warm too
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        end = time.monotonic() + 10
        while self.watchers and time.monotonic() < end:
            time.sleep(0.01)

    def put(self, kind, name, namespace=None, labels=None, annotations=None, **more):
        with self.lock:
            self.version += 1
            known = self.objects[kind].get((namespace, name))
            meta = {"name": name, "uid": f"{kind}-{namespace}-{name}", "resourceVersion": str(self.version),
                    "labels": labels or {}, "annotations": annotations or {}, **more.pop("metadata", {})}
            if namespace:
                meta["namespace"] = namespace
            item = {"metadata": meta, **more}
            self.objects[kind][(namespace, name)] = item
            self.tell(kind, "MODIFIED" if known else "ADDED", item)

    def delete(self, kind, name, namespace=None):
        with self.lock:
            self.version += 1
            item = self.objects[kind].pop((namespace, name))
            item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
            self.tell(kind, "DELETED", item)

    def tell(self, kind, change, item):
        event = (self.version, kind, change, item)
        self.history.append(event)
        for events in self.watchers:
            events.put(event)

    def kubeconfig(self, path, ca):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "test",
                       "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{self.port}",
                                                              "certificate-authority": ca}}],
                       "users": [{"name": "agent", "user": {"token": AGENT_TOKEN}}],
                       "contexts": [{"name": "test", "context": {"cluster": "c", "user": "agent"}}]}, f)
        return path

    def asked(self, what):
        return sum(1 for method, path in self.calls if method == "POST" and path.endswith(what))
