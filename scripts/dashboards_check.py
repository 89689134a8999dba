#!/usr/bin/env python3
"""Checks the dashboards: layout, units, descriptions, names of metrics and labels, links.

dashboards_check.py [--sample]   --sample: also asks every panel's queries of a real Prometheus with made-up series
                                 (prometheus and promtool on the PATH), where each must
                                 be understood and answered

Whether Grafana knows every member is for scripts/schemas to say.
"""

import json
import pathlib
import re
import sys

import dashboards
import expressions
from dashboard import panels, sample
from dashboard.prometheus import Prometheus

ROOT = pathlib.Path(__file__).resolve().parent.parent
METRICS = {one["name"]: one for one in json.loads((ROOT / "contracts" / "metrics.json").read_text())["metrics"]}
# Labels that a target gives to its series, and what Prometheus itself makes.
TARGET = {"namespace", "predictor", "pod", "job", "instance"}
OWN = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity", "name"}}
WORDS = {"or", "and", "unless", "bool", "offset", "max", "min", "sum", "count", "topk"}
SELECTOR = re.compile(r"([A-Za-z_:][\w:]*)\s*(?:\{([^}]*)\}|(?=[\s\[)]|$))")
GROUPS = re.compile(r"\b(?:by|on|group_left|group_right|without|ignoring)\s*\(([^)]*)\)")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
REPLACED = re.compile(r'label_replace\(.*?"(\w+)", "\$1", "(\w+)"')


def labels_of(metric):
    """The labels that a series of this name has, or None for an unknown name."""
    base = re.sub(r"_(bucket|sum|count)$", "", metric)
    if metric in OWN:
        return OWN[metric]
    if metric not in METRICS and METRICS.get(base, {}).get("type") == "histogram":
        return {*METRICS[base]["labels"], *TARGET, "le"}
    one = METRICS.get(metric)
    if one is None or one["type"] == "histogram":
        return None
    return {*one["labels"], *TARGET}


def wrong_names(expr):
    """What is wrong with the names in an expression."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    grouped = {label.strip() for group in GROUPS.findall(bare) for label in group.split(",") if label.strip()}
    known = {label for pair in REPLACED.findall(expr) for label in pair}
    for metric, matchers in SELECTOR.findall(GROUPS.sub(" ", bare)):
        if metric in WORDS or metric.startswith("$"):
            continue
        have = labels_of(metric)
        if have is None:
            yield f"the metric {metric} is not in contracts/metrics.json"
            continue
        known |= have
        for label in set(MATCHER.findall(matchers)) - have:
            yield f"{metric} has no label {label}"
    for label in grouped - known:
        yield f"no metric in it has the label {label}"


def counters_alone(expr):
    """Counters that are not read by rate, increase or changes."""
    for found in re.finditer(r"(\w*\()?\b(stockpredictor\w*_total)\b", expr):
        if METRICS.get(found[2], {}).get("type") == "counter" and found[1] not in ("rate(", "increase(", "changes("):
            yield f"the counter {found[2]} is used without rate or increase"


def wrong_layout(board):
    """Panels that overlap or leave the grid."""
    taken = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > panels.COLUMNS:
            yield f"{panel['title']}: it leaves the grid"
        for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
            if cell in taken:
                yield f"{panel['title']}: it overlaps {taken[cell]}"
                break
            taken[cell] = panel["title"]
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have the same id"


def links_of(board):
    """(where, url) of every link."""
    for link in board["links"]:
        if link["type"] == "link":
            yield "the dashboard", link["url"]
    for panel in expressions.panels(board):
        for link in panel["links"]:
            yield panel["title"], link["url"]
        for override in panel["fieldConfig"]["overrides"]:
            for one in override["properties"]:
                if one["id"] == "links":
                    for link in one["value"]:
                        yield panel["title"], link["url"]


def wrong_link(url, uids):
    """What is wrong with a link, or None: documents must exist, dashboards too, and their variables."""
    if url.startswith("/d/"):
        uid, _, arguments = url.removeprefix("/d/").partition("?")
        if uid not in uids:
            return f"there is no dashboard {uid}"
        unknown = {name for name in re.findall(r"var-(\w+)=", arguments)} - uids[uid]
        return f"{uid} has no variable {', '.join(sorted(unknown))}" if unknown else None
    if not url.startswith(panels.DOCS):
        return "it leads neither to docs/ nor to a dashboard"
    path = "docs" + url.removeprefix(panels.DOCS)
    if "${" in path:
        pages = [path.replace("${__data.fields.Alert}", name) for name in dashboards.alert_names()]
        missing = [page for page in pages if not (ROOT / page).is_file()]
        return f"missing: {', '.join(missing)}" if missing else None
    return None if (ROOT / path).exists() else f"there is no {path}"


def wrong_panel(panel):
    """What a panel lacks."""
    if not panel["description"].endswith("."):
        yield "it has no description, or none that ends as a sentence"
    if not panel["targets"]:
        yield "it asks nothing"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "it has no unit"
    for target in panel["targets"]:
        yield from wrong_names(target["expr"])
        yield from counters_alone(target["expr"])
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            if not re.search(rf"\b{label}\b", target["expr"]):
                yield f"the legend names {label}, and the query does not"


def wrong():
    """Everything that is wrong, as sentences."""
    boards = {path.stem: json.loads(path.read_text()) for path in expressions.DASHBOARDS}
    uids = {board["uid"]: {one["name"] for one in board["templating"]["list"]} for board in boards.values()}
    if len(uids) != 4:
        yield f"there should be four dashboards with a uid of their own; there are {len(uids)}"
    for name, board in boards.items():
        for what in wrong_layout(board):
            yield f"{name}: {what}"
        for panel in expressions.panels(board):
            for what in wrong_panel(panel):
                yield f"{name}: {panel['title']}: {what}"
        for where, url in links_of(board):
            what = wrong_link(url, uids)
            if what:
                yield f"{name}: {where}: {url}: {what}"
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.sub(r"__name__=~\"[^\"]*\", ", "", variable["definition"].removeprefix("label_values(").rpartition(",")[0])
                for what in wrong_names(asked) if not asked.startswith("{") else ():
                    yield f"{name}: ${variable['name']}: {what}"


def unanswered():
    """Queries that Prometheus does not understand, or that a sample leaves without an answer."""
    with sample.Served(3 * 3600) as served:
        prometheus = Prometheus(served.url, served.end - 7200, served.end, 60)
        for one in expressions.of_dashboards(expressions.DEFAULTS | sample.VARIABLES):
            try:
                found = prometheus.now(one["expr"]) if one["type"] == "instant" else prometheus.over_time(one["expr"])
            except ValueError as error:
                yield f"{one['source']}: {error}"
                continue
            if not found and not one["may_be_empty"]:
                yield f"{one['source']}: no data: {one['expr']}"


def main():
    if set(sys.argv[1:]) - {"--sample"}:
        sys.exit(__doc__)
    found = list(wrong())
    if not found and "--sample" in sys.argv:
        found = list(unanswered())
    if found:
        sys.exit("dashboards:\n  " + "\n  ".join(found))


if __name__ == "__main__":
    main()
