"""Draws dashboards as a web page: Grafana's JSON and the answers of a Prometheus in, HTML with inline SVG out.

It reads the same JSON that Grafana reads (grid, units, thresholds, mappings, transformations, overrides) and understands
what scripts/dashboard/panels.py writes, nothing else. It is no Grafana, and its pictures say so.
"""

import html
import math
import re
import time

from . import units

COLORS = {"green": "#37872d", "orange": "#e0752d", "red": "#c4162a", "blue": "#1f60c4"}
PALETTE = ["#3274d9", "#56a64b", "#e0752d", "#a352cc", "#e02f44", "#00a3a3", "#b58900", "#705da0", "#5f6b7a", "#c15c17"]
CELL, GAP, WIDTH, MARGIN = 30, 8, 1366, 12
STYLE = f"""
body {{ margin: 0; width: {WIDTH}px; background: #f4f5f5; font: 12px/1.35 'DejaVu Sans', sans-serif; color: #24292e; }}
header {{ padding: 8px {MARGIN}px 0; height: 44px; }} header b {{ font-size: 16px; }} header small {{ color: #5b636b; }}
main {{ position: relative; }} section {{ position: absolute; background: #fff; border: 1px solid #d8dadd; border-radius: 3px; overflow: hidden; }}
section.row {{ background: none; border: 0; font-weight: bold; font-size: 13px; padding-top: 6px; }}
h2 {{ font-size: 12px; margin: 5px 8px 2px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
.stat {{ position: absolute; inset: 0; display: flex; flex-direction: column; }}
.stat div {{ flex: 1; display: flex; align-items: center; justify-content: center; font-size: 28px; font-weight: bold; padding-bottom: 8px; }}
table {{ border-collapse: collapse; width: 100%; }} th, td {{ text-align: left; padding: 3px 8px; border-bottom: 1px solid #ebecee; white-space: nowrap; }}
th {{ color: #1f60c4; font-weight: bold; }} td.n, th.n {{ text-align: right; }} td {{ overflow: hidden; text-overflow: ellipsis; max-width: 190px; }}
.legend {{ position: absolute; left: 8px; right: 8px; bottom: 4px; height: 32px; overflow: hidden; font-size: 11px; }}
.legend span {{ margin-right: 10px; white-space: nowrap; display: inline-block; }} .legend i {{ display: inline-block; width: 12px; height: 3px; margin: 0 4px 3px 0; }}
.none {{ color: #8a9199; text-align: center; padding-top: 14px; }} svg text {{ font-size: 10px; fill: #5b636b; }}
.bar {{ display: flex; align-items: center; margin: 5px 8px; }} .bar span {{ width: 38%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.bar div {{ flex: 1; height: 15px; background: #ebecee; }} .bar div div {{ height: 15px; }} .bar b {{ width: 66px; text-align: right; }}
"""


def named(labels, legend, expr):
    """The name of a series."""
    if legend == "__auto":
        return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or expr
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def shown(value, config):
    """(text, colour) of a value by mappings, thresholds and unit."""
    for mapping in config.get("mappings", []):
        one = mapping["options"].get(f"{value:g}")
        if one:
            return one["text"], COLORS[one["color"]]
    color = None
    for step in config["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = COLORS[step["color"]]
    return units.text(value, config["unit"], config.get("decimals")), color


class Page:
    """One dashboard; `resolve` replaces variables in an expression. `empty` collects panels that show nothing."""

    def __init__(self, dashboard, prometheus, resolve):
        self.dashboard, self.prometheus, self.resolve, self.empty = dashboard, prometheus, resolve, []

    def series(self, panel):
        """[(name, points)] of all queries of a panel."""
        return [
            (named(labels, target["legendFormat"], target["expr"]), points)
            for target in panel["targets"]
            for labels, points in sorted(self.prometheus.over_time(self.resolve(target["expr"])), key=lambda one: sorted(one[0].items()))
        ]

    def panel(self, panel):
        """A panel's inside."""
        width, height = self.size(panel["gridPos"])
        draw = {"stat": self.stat, "timeseries": self.lines, "state-timeline": self.states, "bargauge": self.bars, "table": self.table}
        inside = draw[panel["type"]](panel, width, height)
        if not inside:
            self.empty.append(panel["title"])
        heading = "" if panel["type"] == "stat" and inside else f"<h2>{html.escape(panel['title'])}</h2>"
        return heading + (inside or "<div class=none>No data</div>")

    def stat(self, panel, _width, _height):
        target, config = panel["targets"][0], panel["fieldConfig"]["defaults"]
        found = self.prometheus.now(self.resolve(target["expr"]))
        if not found:
            return ""
        labels, value = found[0]
        words, color = shown(value, config)
        if panel["options"]["textMode"] == "name":
            words = named(labels, target["legendFormat"], "")
        ground = f"background:{color};color:#fff" if panel["options"]["colorMode"] == "background" else f"color:{color}"
        return f'<div class=stat style="{ground}"><h2>{html.escape(panel["title"])}</h2><div>{html.escape(words)}</div></div>'

    def bars(self, panel, _width, _height):
        target, config = panel["targets"][0], panel["fieldConfig"]["defaults"]
        found = self.prometheus.now(self.resolve(target["expr"]))
        most, out = config.get("max") or max((value for _, value in found), default=0) or 1, []
        for labels, value in sorted(found, key=lambda one: -one[1]):
            words, color = shown(value, config)
            name = html.escape(named(labels, target["legendFormat"], target["expr"]))
            out.append(f'<div class=bar><span>{name}</span><div><div style="width:{100 * value / most:.1f}%;background:{color}"></div></div><b>{words}</b></div>')
        return "".join(out)

    def table(self, panel, _width, _height):
        rows, names = {}, []
        for target in panel["targets"]:
            column = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
            for labels, value in self.prometheus.now(self.resolve(target["expr"])):
                row = rows.setdefault(tuple(sorted(labels.items())), dict(labels))
                row[column] = value
                names += [name for name in row if name not in names]
        arrange = next(one["options"] for one in panel["transformations"] if one["id"] == "organize")
        order, renames = arrange["indexByName"], arrange["renameByName"]
        names = sorted((name for name in order if not arrange["excludeByName"].get(name)), key=lambda name: order[name])
        extra = {name for row in rows.values() for name in row} - set(order)
        if extra:
            raise ValueError(f"{panel['title']}: columns that nobody arranged: {sorted(extra)}")
        fields = {one["matcher"]["options"]: {p["id"]: p["value"] for p in one["properties"]} for one in panel["fieldConfig"]["overrides"]}
        ordered = list(rows.values())
        for sort in panel["options"]["sortBy"]:
            key = next(name for name in names if renames[name] == sort["displayName"])
            ordered.sort(key=lambda row: (row.get(key) is not None, row.get(key, 0) if key.startswith("Value") else row.get(key, "")), reverse=sort["desc"])
        number = {name: name.startswith("Value") for name in names}
        head = "".join(
            f"<th class={'n' if number[name] else 't'} style='width:{fields.get(renames[name], {}).get('custom.width', 'auto')}px'>{html.escape(renames[name])}</th>"
            for name in names
        )
        body = "".join("<tr>" + "".join(self.cell(row.get(name), fields.get(renames[name], {}), panel) for name in names) + "</tr>" for row in ordered)
        return f"<table><tr>{head}</tr>{body}</table>" if ordered else ""

    @staticmethod
    def cell(value, field, panel):
        """A cell of a table."""
        if value is None or isinstance(value, str):
            return f"<td>{html.escape(value or '')}</td>"
        config = panel["fieldConfig"]["defaults"] | field
        words, color = shown(value, config)
        ink = f" style='color:{color};font-weight:bold'" if "custom.cellOptions" in field and color else ""
        return f"<td class=n{ink}>{html.escape(words)}</td>"

    def frame(self, width, height, left):
        """The plot's area and the time axis: (x of a time, top, bottom, axis)."""
        top, bottom, right = 30, height - 56, width - 12
        start, end = self.prometheus.start, self.prometheus.end
        def x(at):
            return left + (at - start) / (end - start) * (right - left)

        count = max(2, (right - left) // 90)
        step = next((one for one in (300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400) if (end - start) / one <= count), 172800)
        form, axis, at = "%H:%M" if step < 86400 else "%m-%d", "", math.ceil(start / step) * step
        while at <= end:
            axis += f"<line x1='{x(at):.1f}' x2='{x(at):.1f}' y1='{top}' y2='{bottom}' stroke='#ebecee'/>"
            axis += f"<text x='{x(at):.1f}' y='{bottom + 13}' text-anchor='middle'>{time.strftime(form, time.gmtime(at))}</text>"
            at += step
        return x, top, bottom, axis

    def lines(self, panel, width, height):
        config, found = panel["fieldConfig"]["defaults"], self.series(panel)
        if not any(points for _, points in found):
            return ""
        dashed = [re.compile(one["matcher"]["options"].strip("/")) for one in panel["fieldConfig"]["overrides"] if one["matcher"]["id"] == "byRegexp"]
        drawn, sums = [], {}
        for index, (name, points) in enumerate(found):
            bound = any(one.fullmatch(name) for one in dashed)
            values = []
            for at, value in points:
                low = sums.get(at, 0) if config["custom"]["stacking"]["mode"] == "normal" and not bound else 0
                values.append((at, low, low + value))
                if not bound:
                    sums[at] = low + value
            drawn.append((name, PALETTE[index % len(PALETTE)], bound, values))
        limits = [step for step in config["thresholds"]["steps"] if step["value"] is not None and config["custom"]["thresholdsStyle"]["mode"] == "line"]
        finite = [high for *_, values in drawn for _, _, high in values if math.isfinite(high)] or [0]
        most = max([*finite, *(step["value"] for step in limits)]) * (1.06 if "min" in config else 1.02) or 1
        room = (max(finite) - min(finite)) * 0.2
        least = min(config.get("min", min(finite) - room), min(finite))
        marks = units.ticks(least, most, config["unit"], 4)
        left = 16 + round(6.2 * max(len(units.tick(tick, config["unit"])) for tick in marks))
        x, top, bottom, axis = self.frame(width, height, left)

        def y(value):
            return bottom - (value - least) / (most - least) * (bottom - top)

        for tick in marks:
            axis += f"<line x1='{left}' x2='{width - 12}' y1='{y(tick):.1f}' y2='{y(tick):.1f}' stroke='#ebecee'/>"
            axis += f"<text x='{left - 4}' y='{y(tick) + 3:.1f}' text-anchor='end'>{units.tick(tick, config['unit'])}</text>"
        for step in limits:
            at = f"{y(step['value']):.1f}"
            axis += f"<line x1='{left}' x2='{width - 12}' y1='{at}' y2='{at}' stroke='{COLORS[step['color']]}' stroke-dasharray='2 3'/>"
        wide = max((self.prometheus.step / (self.prometheus.end - self.prometheus.start)) * (width - left) * 0.8, 2)
        for _, color, bound, values in drawn:
            if config["custom"]["drawStyle"] == "bars":
                tall = [(at, low, high) for at, low, high in values if high > low]
                axis += "".join(
                    f"<rect x='{x(at) - wide:.1f}' y='{y(high):.1f}' width='{wide:.1f}' height='{y(low) - y(high):.1f}' fill='{color}'/>"
                    for at, low, high in tall
                )
                continue
            for part in self.parts(values):
                axis += self.line(part, x, y, bottom, color, bound, config)
        legend = "".join(f"<span><i style='background:{color}'></i>{html.escape(name)}</span>" for name, color, *_ in drawn)
        return f"<svg width={width} height={height} style='position:absolute;inset:0'>{axis}</svg><div class=legend>{legend}</div>"

    @staticmethod
    def line(part, x, y, floor, color, bound, config):
        """A line and what is filled below it."""
        path, out = " ".join(f"{x(at):.1f},{y(high):.1f}" for at, _, high in part), ""
        if not bound:
            under = " ".join(f"{x(at):.1f},{min(y(low), floor):.1f}" for at, low, _ in reversed(part))
            out = f"<polygon points='{path} {under}' fill='{color}' opacity='{config['custom']['fillOpacity'] / 100}'/>"
        dash = " stroke-dasharray='6 5'" if bound else ""
        return f"{out}<polyline points='{path}' fill='none' stroke='{color}' stroke-width='1.4'{dash}/>"

    def parts(self, values):
        """A line, cut where values are missing."""
        part = []
        for value in values:
            if part and value[0] - part[-1][0] > self.prometheus.step * 1.5 or not math.isfinite(value[2]):
                yield part
                part = []
            if math.isfinite(value[2]):
                part.append(value)
        if part:
            yield part

    def stretches(self, points):
        """(begin, end, value) of stretches without a change or a gap."""
        found = []
        for at, value in points:
            began = max(at - self.prometheus.step, self.prometheus.start)
            if found and found[-1][2] == value and began - found[-1][1] < 1:
                found[-1][1] = at
            else:
                found.append([began, at, value])
        return found

    def states(self, panel, width, height):
        config, found = panel["fieldConfig"]["defaults"], self.series(panel)
        if not found:
            return ""
        x, top, bottom, axis = self.frame(width, height, min(190, width // 3))
        line, seen = min(26, (bottom - top) / len(found)), {}
        for index, (name, points) in enumerate(found):
            above = top + index * line
            axis += f"<text x='8' y='{above + line / 2 + 4:.1f}'>{html.escape(name[:28])}</text>"
            for began, ended, value in self.stretches(points):
                words, color = shown(value, config)
                seen[words] = color
                axis += f"<rect x='{x(began):.1f}' y='{above + 2:.1f}' width='{max(x(ended) - x(began), 1):.1f}' height='{line * 0.75:.1f}' fill='{color}'/>"
        legend = "".join(f"<span><i style='background:{color}'></i>{html.escape(words)}</span>" for words, color in sorted(seen.items()))
        return f"<svg width={width} height={height} style='position:absolute;inset:0'>{axis}</svg><div class=legend style='height:16px'>{legend}</div>"

    @staticmethod
    def size(grid):
        """Pixels of a place in the grid."""
        column = (WIDTH - 2 * MARGIN + GAP) / 24
        return round(grid["w"] * column - GAP), grid["h"] * (CELL + GAP) - GAP

    def html(self, note):
        """The whole page and its height."""
        column, out, lowest = (WIDTH - 2 * MARGIN + GAP) / 24, [], 0
        for panel in self.dashboard["panels"]:
            grid = panel["gridPos"]
            width, height = self.size(grid)
            left, top = round(MARGIN + grid["x"] * column), grid["y"] * (CELL + GAP)
            lowest = max(lowest, top + height)
            row = panel["type"] == "row"
            inside = html.escape(panel["title"]) if row else self.panel(panel)
            out.append(f"<section class={'row' if row else 'panel'} style='left:{left}px;top:{top}px;width:{width}px;height:{height}px'>{inside}</section>")
        head = f"<header><b>{html.escape(self.dashboard['title'])}</b><br><small>{html.escape(note)}</small></header>"
        page = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{head}<main>{''.join(out)}</main></body>"
        return page, lowest + 60
