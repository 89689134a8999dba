#!/usr/bin/env python3
"""Lists what is asked of Prometheus: one JSON document a line, {source, expr, type, may_be_empty}.

expressions.py [--dashboards] [--rules] [NAME=VALUE…]

Both, without a choice. Variables of dashboards are replaced: namespace, predictor and name by `.+` and steps of time by
5 minutes, unless a value is given, such as predictor=nvda or __rate_interval=1m.
"""

import json
import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parent.parent / "charts" / "stockpredictor"
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
RULES = CHART / "files" / "rules.yaml"
DEFAULTS = {"namespace": ".+", "predictor": ".+", "name": ".+", "__rate_interval": "5m", "__interval": "5m", "__range": "24h"}
# Panels for which nothing to show is the good state, or one of a file system without a fixed number of inodes.
MAY_BE_EMPTY = {"Alerts that fire", "Failed reconciles by category", "Conditions that are not good", "Inodes used", "Failures of watches"}
VARIABLE = re.compile(r"\$\{?(\w*[a-z]\w*)\}?")


def replaced(expr, values):
    """The expression with its variables replaced; `$1` of label_replace is none of them."""
    def value(match):
        name = match[1]
        if name not in values:
            raise ValueError(f"${name} has no value: {expr}")
        return values[name]

    return VARIABLE.sub(value, expr)


def panels(dashboard):
    """The panels that ask something."""
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def of_variable(definition):
    """What is empty when a variable has no values. Where a variable takes one value of another, several are as good."""
    selector, _, label = definition.removeprefix("label_values(").removesuffix(")").rpartition(", ")
    selector = selector.replace('="$', '=~"$')
    return f"group by ({label}) ({selector}) unless group({selector})"


def of_dashboards(values):
    """Every query of every variable and every panel."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield {
                    "source": f"{path.name}: variable {variable['name']}",
                    "expr": replaced(of_variable(variable["definition"]), values),
                    "type": "instant",
                    "may_be_empty": False,
                }
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield {
                    "source": f"{path.name}: {panel['title']} {target['refId']}",
                    "expr": replaced(target["expr"], values),
                    "type": "instant" if target["instant"] else "range",
                    "may_be_empty": panel["title"] in MAY_BE_EMPTY,
                }


def folded(lines, indent):
    """A YAML block below its key, on one line, and how many lines it has."""
    taken = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        taken.append(line.strip())
    return " ".join(part for part in taken if part), len(taken)


def of_rules(text):
    """Every rule of the file. Only what the file uses is understood: one key a line, `expr` plain, quoted or a block."""
    name, lines = None, text.splitlines()
    for number, line in enumerate(lines):
        key = re.match(r"^(\s*)(?:- )?(alert|record|expr): *(.*)$", line)
        if not key:
            continue
        indent, kind, value = len(key[1]), key[2], key[3].strip()
        if kind != "expr":
            name = value.strip("\"'")
            continue
        if value in ("|", ">", "|-", ">-"):
            value, _ = folded(lines[number + 1 :], indent)
        elif value[:1] in "\"'":
            value = value[1:-1].replace("''", "'") if value[0] == "'" else json.loads(value)
        yield {"source": f"rules.yaml: {name}", "expr": value, "type": "instant", "may_be_empty": True}


def main():
    chosen = [one for one in sys.argv[1:] if one.startswith("--")]
    pairs = [one for one in sys.argv[1:] if not one.startswith("--")]
    if set(chosen) - {"--dashboards", "--rules"} or any("=" not in one for one in pairs):
        sys.exit(__doc__)
    values = DEFAULTS | dict(one.split("=", 1) for one in pairs)
    if not chosen or "--dashboards" in chosen:
        for one in of_dashboards(values):
            print(json.dumps(one))
    if not chosen or "--rules" in chosen:
        for one in of_rules(RULES.read_text()):
            print(json.dumps(one))


if __name__ == "__main__":
    main()
