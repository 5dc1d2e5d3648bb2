"""Answers held against docs/api/openapi.yaml: the part of JSON Schema that the file uses, no more."""
import json
import os
import re
import urllib.parse

import yaml

SOURCE = os.environ.get("PGJOLT_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}
KEYWORDS = {"type", "nullable", "properties", "required", "additionalProperties", "items", "enum", "oneOf", "pattern",
            "minimum", "maximum", "description", "default", "$ref"}


class Mismatch(AssertionError):
    pass


class Document:
    def __init__(self, path=os.path.join(SOURCE, "docs/api/openapi.yaml")):
        with open(path, encoding="utf-8") as f:
            self.root = yaml.safe_load(f)
        self.operations = {}
        for path, item in self.root["paths"].items():
            for method in ("get", "post", "put", "delete", "patch"):
                if method in item:
                    self.operations[method.upper(), path] = item[method]
        self.seen = set()

    def resolve(self, node):
        while "$ref" in node:
            target = self.root
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def template(self, path):
        """The documented path that fits, or None."""
        path = urllib.parse.unquote(path.split("?")[0])
        if path in self.root["paths"]:
            return path
        for template in self.root["paths"]:
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path):
                return template
        return None

    def check(self, schema, value, where="body"):
        schema = self.resolve(schema)
        unknown = set(schema) - KEYWORDS
        if unknown:
            raise Mismatch(f"{where}: this checker does not know {unknown}")
        if value is None:
            if not schema.get("nullable"):
                raise Mismatch(f"{where}: null")
            return
        if "oneOf" in schema:
            fits = 0
            for one in schema["oneOf"]:
                try:
                    self.check(one, value, where)
                    fits += 1
                except Mismatch:
                    pass
            if fits != 1:
                raise Mismatch(f"{where}: {value!r} fits {fits} of oneOf")
            return
        kind = schema.get("type")
        if kind and not TYPES[kind](value):
            raise Mismatch(f"{where}: {value!r} is no {kind}")
        if "enum" in schema and value not in schema["enum"]:
            raise Mismatch(f"{where}: {value!r} is none of {schema['enum']}")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            raise Mismatch(f"{where}: {value!r} does not match {schema['pattern']}")
        if "minimum" in schema and value < schema["minimum"] or "maximum" in schema and value > schema["maximum"]:
            raise Mismatch(f"{where}: {value!r} is out of range")
        if kind == "array":
            for i, item in enumerate(value):
                self.check(schema["items"], item, f"{where}[{i}]")
        if kind == "object":
            self.check_object(schema, value, where)

    def check_object(self, schema, value, where):
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                raise Mismatch(f"{where}: no {name}")
        for name, item in value.items():
            if name in properties:
                self.check(properties[name], item, f"{where}.{name}")
            elif schema.get("additionalProperties", True) is False:
                raise Mismatch(f"{where}: {name} is not documented")

    def check_answer(self, method, path, status, content_type, body):
        """Is this answer one that the file promises? Of a path that is no route: a 404 in the error's form."""
        where = f"{method} {path} {status}"
        template = self.template(path)
        if template is None:
            if status not in (400, 401, 403, 404):
                raise Mismatch(f"{where}: not documented")
            self.check(self.root["components"]["schemas"]["Error"], json.loads(body), where)
            return
        operation = self.operations.get(("GET" if method == "HEAD" else method, template))
        if operation is None:
            # Another method of the path documents the 405.
            if status not in (400, 401, 403, 405):
                raise Mismatch(f"{where}: not documented")
            self.check(self.root["components"]["schemas"]["Error"], json.loads(body), where)
            return
        if str(status) not in operation["responses"]:
            raise Mismatch(f"{where}: the status is not documented")
        content = self.resolve(operation["responses"][str(status)])["content"]
        media = content_type.split(";")[0]
        if media not in content:
            raise Mismatch(f"{where}: {media} is not documented")
        self.seen.add((method, template, status))
        if method == "HEAD":
            return
        schema = content[media]["schema"]
        if media == "application/json":
            self.check(schema, json.loads(body), where)
        elif media == "application/x-ndjson":
            for line in body.decode().splitlines():
                if line:
                    self.check(schema, json.loads(line), where)
