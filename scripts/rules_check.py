#!/usr/bin/env python3
"""Checks what promtool can't know about the alert rules.

rules_check.py           compares the rules, their tests, the runbooks and contracts/metrics.json
rules_check.py --promql  prints the expressions of the runbooks' promql blocks as a rule file, for promtool

Each alert has a severity, a summary, a description and the URL of a page that exists; each page belongs to an alert and stands
in the table; each metric is in the contract, with the labels that it is asked for; each alert has a test in which it fires, one in
which it stays silent, and one in which it resolves.

Only what these files use of YAML is understood: two spaces a level, block scalars, one-line maps, anchors of annotations.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = ROOT / "charts/stockpredictor/files/rules.yaml"
TESTS = ROOT / "charts/stockpredictor/ci/rules"
PAGES = ROOT / "docs/runbooks"
BASE = "https://github.com/stockpredictor/stockpredictor/blob/main/docs/runbooks/"
SECTIONS = ["What it means", "How to look", "How to fix", "When it goes away"]
# What Prometheus adds to the series of a target.
TARGET = {"predictor": {"namespace", "predictor", "pod"}, "operator": {"namespace", "pod"}}
WORDS = {"and", "or", "unless", "bool"}
CASES = ["fires", "stays silent", "resolves"]


def value(lines, start, depth, first):
    """The scalar that begins with `first` behind its key, and the number of the line after it."""
    if first not in ("|", ">-"):
        return first, start + 1
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
        end += 1
    return "\n".join(line.strip() for line in lines[start + 1 : end]), end


def read_rules(text):
    """The rules in their order: maps with alert or record, expr, for, labels and annotations."""
    lines, number, rules, anchors = text.splitlines(), 0, [], {}
    while number < len(lines):
        match = re.match(r"^( *)(- )?(\w+): ?(.*)$", lines[number])
        if not match or lines[number].lstrip().startswith("#"):
            number += 1
            continue
        depth, key = len(match[1]) + len(match[2] or ""), match[3]
        if match[2] and key in ("alert", "record"):
            rules.append({"annotations": {}})
        if key == "annotations":
            if match[4].startswith("*"):
                rules[-1]["annotations"] = anchors[match[4][1:]]
            elif match[4].startswith("&"):
                anchors[match[4][1:]] = rules[-1]["annotations"]
            number += 1
            continue
        found, number = value(lines, number, depth, match[4])
        if rules and depth == 8:
            rules[-1][key] = found
        elif rules and depth == 10:
            rules[-1]["annotations"][key] = found
    return rules


def contract():
    """The labels of each series by its name."""
    known = {"up": TARGET["predictor"]}
    for metric in json.loads((ROOT / "contracts/metrics.json").read_text())["metrics"]:
        labels = TARGET[metric["source"]] | set(metric["labels"])
        names = {metric["name"]: labels}
        if metric["type"] == "histogram":
            names = {f"{metric['name']}_{part}": labels for part in ("sum", "count")}
            names[f"{metric['name']}_bucket"] = labels | {"le"}
        known |= names
    return known


def problems_of(expression, known, made=frozenset()):
    """What is wrong with the metrics and labels of an expression; `made` are labels that it makes itself."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    bare = re.sub(r"\[[^\]]*\]|\boffset \w+", "", bare)
    lists = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right) ?\(([^)]*)\)", bare)
    bare = re.sub(r"(\b\w+ (?:by|without)|\b(?:on|ignoring|group_left|group_right)) ?\([^)]*\)", "", bare)
    used = set()
    for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", bare):
        asked = set(re.findall(r"(\w+) ?(?:=~|!~|!=|=)", matchers))
        for label in sorted(asked - known.get(name, asked)):
            yield f"{name} has no label {label}"
    bare = re.sub(r"\{[^}]*\}", "", bare)
    for name in re.findall(r"(?<![\w.:])([a-zA-Z_:][\w:]*)\b(?! ?\()", bare):
        if name not in WORDS and name not in known:
            yield f"{name} is not in contracts/metrics.json"
        elif name in known:
            used |= known[name]
    if not used:
        yield "it reads no metric"
    for label in sorted({label.strip() for one in lists for label in one.split(",")} - used - made - {""}):
        yield f"no metric of it has the label {label}"


def read_tests():
    """For each name of a test the alerts that it looks at, in order: (alert, whether it has to fire)."""
    tests = {}
    for path in sorted(TESTS.glob("*.yaml")):
        looks = None
        for line in path.read_text().splitlines():
            if match := re.match(r"^  - name: (.+)$", line):
                if match[1] in tests:
                    complain(f"{path.name}: there are two tests {match[1]!r}")
                looks = tests.setdefault(match[1], [])
            elif match := re.match(r"^      - \{?alertname: (\w+)", line):
                looks.append([match[1], False])
            elif re.match(r"^        exp_alerts:$", line):
                looks[-1][1] = True
    return tests


ERRORS = []


def complain(text):
    ERRORS.append(text)


def check_alert(rule, known):
    """An alert's words and its page."""
    name = rule["alert"]
    if not re.fullmatch(r"\{severity: (critical|warning)\}", rule.get("labels", "")):
        complain(f"{name}: labels must be {{severity: critical}} or {{severity: warning}}")
    for key in ("summary", "description", "runbook_url"):
        if not rule["annotations"].get(key):
            complain(f"{name}: write an annotation {key}")
    if rule["annotations"].get("runbook_url") != f"{BASE}{name}.md":
        complain(f"{name}: runbook_url must be {BASE}{name}.md")
    for word in set(re.findall(r"\bstockpredictor_\w+", rule["annotations"].get("description", ""))):
        if word not in known:
            complain(f"{name}: the description's {word} is not in contracts/metrics.json")


def check_pages(alerts, severities, known):
    """Each alert's page, and the table of them."""
    pages = {path.stem: path.read_text() for path in PAGES.glob("*.md")}
    table = pages.pop("README", "")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| ([a-z, ]+) \| .+ \|$", table, re.MULTILINE))
    for name in sorted(alerts ^ set(pages)):
        complain(f"docs/runbooks/{name}.md: there must be a page for each alert, and none without one")
    for name in sorted(alerts ^ set(rows)):
        complain(f"docs/runbooks/README.md: {name} must have a row if, and only if, it is an alert")
    for name in sorted(alerts & set(rows)):
        if rows[name] != ", ".join(severities[name]):
            complain(f"docs/runbooks/README.md: the severity of {name} is {', '.join(severities[name])}")
    for name, page in sorted(pages.items()):
        if not page.startswith(f"# {name}\n"):
            complain(f"docs/runbooks/{name}.md: the first line must be # {name}")
        if re.findall(r"^## (.+)$", page, re.MULTILINE) != SECTIONS:
            complain(f"docs/runbooks/{name}.md: its sections must be {', '.join(SECTIONS)}")
        for expression in expressions(page):
            for problem in problems_of(expression, known):
                complain(f"docs/runbooks/{name}.md: {problem}: {expression}")


def expressions(page):
    """The queries of a page's promql blocks, one a line."""
    blocks = re.findall(r"^```promql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def main():
    if sys.argv[1:] == ["--promql"]:
        print("groups:\n  - name: runbooks\n    rules:")
        for path in sorted([*PAGES.glob("*.md"), ROOT / "docs/troubleshooting.md"]):
            for number, line in enumerate(expressions(path.read_text())):
                print(f"      - {{record: {path.stem.replace('-', '_')}:{number}, expr: {json.dumps(line)}}}")
        return
    rules, known, severities = read_rules(RULES.read_text()), contract(), {}
    for rule in rules:
        if "record" in rule:
            known[rule["record"]] = set(re.search(r"by \(([^)]*)\)", rule["expr"])[1].split(", "))
    for rule in rules:
        made = set(re.findall(r'label_replace\(.*?"(\w+)", "\$1"', rule["expr"], re.DOTALL))
        for problem in problems_of(rule["expr"], known, made):
            complain(f"{rule.get('alert') or rule['record']}: {problem}")
        if "alert" in rule:
            check_alert(rule, known)
            severities.setdefault(rule["alert"], []).append(rule.get("labels", "")[11:-1])
    alerts, tests = set(severities), read_tests()
    wanted = {f"{alert} {case}" for alert in alerts for case in CASES}
    for name in sorted(wanted ^ set(tests)):
        complain(f"ci/rules: there must be a test {name!r} if, and only if, it is an alert's")
    for name in sorted(wanted & set(tests)):
        alert, case = name.split(" ", 1)
        looks = [fires for what, fires in tests[name] if what == alert]
        good = {"fires": any(looks), "stays silent": looks and not any(looks), "resolves": looks[-1:] == [False] and len(looks) > 1 and all(looks[:-1])}
        if len(looks) != len(tests[name]) or not good[case]:
            complain(f"ci/rules: the test {name!r} does not look at that")
    check_pages(alerts, severities, known)
    troubles = (ROOT / "docs/troubleshooting.md").read_text()
    for expression in expressions(troubles):
        for problem in problems_of(expression, known):
            complain(f"docs/troubleshooting.md: {problem}: {expression}")
    if len(rules) < 20 or len(tests) < 60:
        complain("the files were not understood: there are more rules and tests than this script has found")
    for error in ERRORS:
        print(f"rules: {error}", file=sys.stderr)
    sys.exit(bool(ERRORS))


if __name__ == "__main__":
    main()
