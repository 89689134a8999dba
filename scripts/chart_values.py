#!/usr/bin/env python3
"""Writes the chart's table of values into its README, from the comments in values.yaml.

chart_values.py          rewrites the table
chart_values.py --check  only compares; exit status 1 says that the table is stale, or that a value has no comment

Only what values.yaml uses is understood: two-space indentation, comments above the value, lists and maps that
are empty, on one line, or documented as a whole by the comment above their key.
"""

import json
import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parent.parent / "charts" / "stockpredictor"
KEY = re.compile(r"^( *)([A-Za-z][\w./-]*):(?: +(.*))?$")
BLOCK = re.compile(r"(<!-- values: begin[^\n]*-->\n).*?(<!-- values: end -->)", re.DOTALL)


def leaf(lines, start, depth):
    """The default below a documented key, as compact text, and the number of the first line after it."""
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
        end += 1
    members = [line.strip() for line in lines[start + 1 : end] if line.strip() and not line.strip().startswith("#")]
    return " ".join(members), end


def rows(text):
    """(key, default, meaning) for each documented value; raises ValueError for an undocumented one."""
    lines = text.splitlines()
    path, comment, number, found = [], [], 0, []
    while number < len(lines):
        line = lines[number]
        stripped = line.strip()
        if not stripped:
            comment = []
        elif stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
        else:
            match = KEY.match(line)
            if not match:
                raise ValueError(f"values.yaml:{number + 1}: not understood: {line}")
            depth, key, value = len(match[1]), match[2], match[3]
            path = path[: depth // 2] + [key]
            name, meaning = ".".join(path), " ".join(comment)
            comment = []
            if value is None and meaning:
                value, number = leaf(lines, number, depth)
                found.append((name, value, meaning))
                continue
            if value is not None:
                if not meaning:
                    raise ValueError(f"values.yaml:{number + 1}: say in a comment above what {name} means")
                found.append((name, value, meaning))
        number += 1
    return found


def names_in(schema, path=()):
    """The keys of the schema that hold a value, not further keys."""
    for key, member in schema.get("properties", {}).items():
        if member.get("properties") and key != "resources":
            yield from names_in(member, (*path, key))
        elif key != "global":
            yield ".".join((*path, key))


def main():
    check = sys.argv[1:] == ["--check"]
    table = ["| value | default | meaning |", "| --- | --- | --- |"]
    found = rows((CHART / "values.yaml").read_text())
    for name, default, meaning in found:
        shown = default.replace("|", "\\|")
        table.append(f"| `{name}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |")
    schema = set(names_in(json.loads((CHART / "values.schema.json").read_text())))
    difference = schema ^ {name for name, _, _ in found}
    if difference:
        sys.exit(f"values.yaml and values.schema.json don't have the same values: {', '.join(sorted(difference))}")
    readme = CHART / "README.md"
    old = readme.read_text()
    body = "\n".join(table) + "\n"
    new = BLOCK.sub(lambda match: match[1] + body + match[2], old)
    if body not in new:
        sys.exit("README.md of the chart has no '<!-- values: begin … -->' block for the table")
    if check and old != new:
        sys.exit("the table of values in charts/stockpredictor/README.md is stale: run `make crds`")
    if not check:
        readme.write_text(new)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(str(error))
