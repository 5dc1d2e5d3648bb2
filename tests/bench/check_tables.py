#!/usr/bin/python3 -B
"""Has a page (docs/performance.md) a table of each benchmark of tests/bench/run, under the title that it prints?
Reads the programs and runs none. usage: check_tables.py PAGE [FOLDER-OF-THE-BENCHMARKS]"""
import ast
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def parsed(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return ast.parse(f.read(), name)


def benchmarks(folder):
    """{name: (module, function)} of BENCHES."""
    for node in parsed(folder, "run").body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "BENCHES":
            functions = [value.elts[0] for value in node.value.values]
            return {key.value: (f.value.id, f.attr) for key, f in zip(node.value.keys, functions)}
    raise SystemExit("tests/bench/run: no BENCHES")


def constants(body):
    """What is assigned once and for all, by name."""
    return {node.targets[0].id: node.value for node in body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}


def text_of(node, names):
    """A title as it is printed; None for what only a run knows, such as a parameter."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, names)
    if isinstance(node, ast.Name) and node.id in names:
        return text_of(names[node.id], names)
    if isinstance(node, ast.JoinedStr):
        parts = [text_of(part, names) for part in node.values]
        return None if None in parts else "".join(parts)
    return None


def titles(module, function):
    """Of the tables that a function, and those of its module that it names, make."""
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    found, seen, todo = [], set(), [function]
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        names = {**constants(module.body), **constants(functions[name].body)}
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Name):
                todo.append(node.id)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Table":
                title = text_of(node.args[0], names)
                if title and title not in found:
                    found.append(title)
    return found


def missing(page, folder):
    with open(page, encoding="utf-8") as f:
        headings = {line.strip().lstrip("#").strip() for line in f if line.startswith("#")}
    for name, (module, function) in benchmarks(folder).items():
        found = titles(parsed(folder, f"{module}.py"), function)
        if not found:
            yield f"{name}: {module}.py, {function}() makes no table whose title can be read"
        for title in found:
            if title not in headings:
                yield f"{name}: no \"### {title}\""


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    lacks = list(missing(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else HERE))
    for line in lacks:
        print(f"{sys.argv[1]}: {line}")
    sys.exit(1 if lacks else 0)


main()
