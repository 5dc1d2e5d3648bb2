"""Runs where an agent can be reached, by a plain python3: calls it as somebody who has a certificate, a token and the
words. Its argument is a document; it prints a list with status and answer of each call."""
import http.client
import json
import os
import ssl
import sys
import tempfile


def context(files):
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, text in files.items():
            paths[name] = os.path.join(folder, name)
            with open(paths[name], "w", encoding="utf-8") as f:
                f.write(text)
        tls = ssl.create_default_context(cafile=paths["ca"])
        tls.check_hostname = False
        tls.load_cert_chain(paths["cert"], paths["key"])
    return tls


def main():
    order = json.loads(sys.argv[1])
    tls, answers = context(order["files"]), []
    for method, path, body in order["calls"]:
        connection = http.client.HTTPSConnection(order["address"], 7420, timeout=20, context=tls)
        connection.request(method, path, body=json.dumps(body) if body else None, headers={
            "Authorization": f"Bearer {order['token']}", "Content-Type": "application/json"})
        response = connection.getresponse()
        answers.append([response.status, json.loads(response.read() or "null")])
        connection.close()
    print(json.dumps(answers))


main()
