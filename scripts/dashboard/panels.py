"""Builders of Grafana's JSON: a panel, a row, a dashboard.

In come titles, queries, units and thresholds; out go dictionaries in the form that Grafana saves. Which panels there
are and what they ask is not decided here.
"""

DOCS = "https://github.com/stockpredictor/stockpredictor/blob/main/docs"
RUNBOOKS = f"{DOCS}/runbooks"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
GOOD, WARN, BAD, CALM = "green", "orange", "red", "blue"
# Nothing to judge: one colour, whatever the value.
PLAIN = [(None, CALM)]


def query(expr, legend="", instant=False, table=False):
    """A query; the ids A, B, … are given by the panel."""
    return {
        "datasource": DATASOURCE,
        "expr": " ".join(expr.split()),
        "legendFormat": legend or "__auto",
        "format": "table" if table else "time_series",
        "instant": instant or table,
        "range": not (instant or table),
        "editorMode": "code",
    }


def thresholds(steps):
    """Steps of (value, colour); the first has no value."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def words(mapping):
    """Numbers that are shown as words: {number: (text, colour)}."""
    options = {
        str(value): {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(mapping.items())
    }
    return [{"type": "value", "options": options}]


def link(text, url):
    """A link to a page."""
    return {
        "type": "link", "title": text, "url": url, "icon": "doc", "tooltip": "", "tags": [], "asDropdown": False,
        "includeVars": False, "keepTime": False, "targetBlank": True,
    }


def panel(kind, title, width, queries, unit, description, options, custom=None, steps=None, mapping=None, **more):
    """What all panels have. `more`: decimals, minimum, maximum, links, overrides, transformations."""
    defaults = {"unit": unit, "thresholds": thresholds(steps or PLAIN), "mappings": words(mapping) if mapping else []}
    defaults["color"] = {"mode": "thresholds" if steps or mapping else "palette-classic"}
    if custom:
        defaults["custom"] = custom
    for key, name in (("decimals", "decimals"), ("minimum", "min"), ("maximum", "max")):
        if more.get(key) is not None:
            defaults[name] = more[key]
    targets = [dict(one, refId=chr(ord("A") + index)) for index, one in enumerate(queries)]
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width},
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": more.get("overrides", [])},
        "options": options,
        "links": [link(text, url) for text, url in more.get("links", [])],
    }
    if more.get("transformations"):
        made["transformations"] = more["transformations"]
    return made


def stat(title, width, expr, unit, description, steps=None, mapping=None, label="", **more):
    """One number now, on a coloured ground when it is judged. `label` shows a label of the series in place of its value."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if steps or mapping else "value",
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": "name" if label else "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    ask = query(expr, f"{{{{{label}}}}}" if label else title, instant=True)
    return panel("stat", title, width, [ask], unit, description, options, steps=steps, mapping=mapping, **more)


def series(title, width, queries, unit, description, stacked=False, limit=None, dashed=None, counts=False, **more):
    """Lines over time. `limit`: steps drawn as lines; `dashed`: a pattern of names drawn as a bound, not as data;
    `counts`: bars, for what happened in each step."""
    custom = {
        "drawStyle": "bars" if counts else "line",
        "lineWidth": 1,
        "fillOpacity": 100 if counts else 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if limit else "off"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    more.setdefault("minimum", 0)
    if dashed:
        more.setdefault("overrides", []).append(
            override("byRegexp", f"/{dashed}/", **{
                "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
                "custom.fillOpacity": 0,
                "custom.stacking": {"mode": "none", "group": "B"},
            })
        )
    made = panel("timeseries", title, width, queries, unit, description, options, custom, steps=limit, **more)
    made["fieldConfig"]["defaults"]["color"]["mode"] = "palette-classic"
    return made


def states(title, width, queries, description, mapping, **more):
    """A bar for each series, coloured by its state over time."""
    custom = {"lineWidth": 0, "fillOpacity": 75, "spanNulls": False}
    options = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, width, queries, "short", description, options, custom, mapping=mapping, **more)


def bars(title, width, expr, legend, unit, description, steps=None, **more):
    """A bar for each series, as long as its value now."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
        "valueMode": "color",
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "minVizWidth": 8,
        "minVizHeight": 16,
        "maxVizHeight": 24,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
    }
    more.setdefault("minimum", 0)
    return panel("bargauge", title, width, [query(expr, legend, instant=True)], unit, description, options, steps=steps, **more)


def override(matcher, value, **properties):
    """Properties of the fields that a matcher finds."""
    return {
        "matcher": {"id": matcher, "options": value},
        "properties": [{"id": key, "value": content} for key, content in properties.items()],
    }


def column(title, expr, unit="short", steps=None, mapping=None, width=None, decimals=None):
    """A column of a table, from an instant query."""
    return {"title": title, "expr": expr, "unit": unit, "steps": steps, "mapping": mapping, "width": width, "decimals": decimals}


def table(title, width, keys, columns, description, sort=None, **more):
    """A row for each set of the labels `keys` ({label: heading}), a column for each query; absent values stay empty.

    `hidden` labels are in the data for links, but are not shown; `key_links` are {label: (text, url)}.
    """
    hidden, key_links = more.pop("hidden", ()), more.pop("key_links", {})
    overrides, renames, order = [], {}, {}
    for index, (label, heading) in enumerate(keys.items()):
        renames[label], order[label] = heading, index
        if label in key_links:
            text, url = key_links[label]
            overrides.append(override("byName", heading, links=[{"title": text, "url": url}]))
    for index, one in enumerate(columns):
        name = "Value" if len(columns) == 1 else f"Value #{chr(ord('A') + index)}"
        renames[name], order[name] = one["title"], len(keys) + index
        properties = {"unit": one["unit"]}
        if one["steps"]:
            properties["thresholds"] = thresholds(one["steps"])
        if one["mapping"]:
            properties["mappings"] = words(one["mapping"])
        if one["steps"] or one["mapping"]:
            properties["custom.cellOptions"] = {"type": "color-text"}
            properties["color"] = {"mode": "thresholds"}
        if one["decimals"] is not None:
            properties["decimals"] = one["decimals"]
        if one["width"]:
            properties["custom.width"] = one["width"]
        overrides.append(override("byName", one["title"], **properties))
    excluded = {name: True for name in ("Time", *hidden)}
    arrange = {"excludeByName": excluded, "renameByName": renames, "indexByName": order}
    options = {
        "frameIndex": 0,
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
        "sortBy": [{"displayName": sort[0], "desc": sort[1]}] if sort else [],
    }
    return panel(
        "table", title, width, [query(one["expr"], table=True) for one in columns], "short", description, options,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False, "filterable": False},
        overrides=overrides,
        transformations=[{"id": "merge", "options": {}}, {"id": "organize", "options": arrange}],
        **more,
    )


def variable(name, label, values, many=False):
    """A variable whose values are those of a label."""
    asked = f"label_values({values})"
    made = {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE,
        "query": {"query": asked, "refId": "StandardVariableQuery"}, "definition": asked,
        "refresh": 2, "sort": 1, "hide": 0, "regex": "", "multi": many, "includeAll": many, "options": [],
    }
    if many:
        made |= {"allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}
    return made


def datasource_variable():
    """The choice of the Prometheus that is asked."""
    return {
        "type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "refresh": 1, "hide": 0,
        "regex": "", "multi": False, "includeAll": False, "options": [],
    }


def dashboard(uid, title, description, variables, rows, since="now-24h"):
    """A dashboard of rows: (title or None, height, panels); a row that is wider than the grid goes on below."""
    panels, y, number = [], 0, 0
    for heading, height, members in rows:
        if heading:
            number += 1
            place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
            panels.append({"type": "row", "id": number, "title": heading, "collapsed": False, "gridPos": place, "panels": []})
            y += 1
        x = 0
        for member in members:
            width = member["gridPos"]["w"]
            if x + width > COLUMNS:
                x, y = 0, y + height
            number += 1
            panels.append({"id": number, **member, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x += width
        y += height
    links = [
        {
            "type": "dashboards", "title": "Stockpredictor", "tags": ["stockpredictor"], "asDropdown": False, "icon": "external link",
            "includeVars": True, "keepTime": True, "targetBlank": False, "tooltip": "", "url": "",
        },
        link("Runbooks", RUNBOOKS),
    ]
    return {
        "uid": uid, "title": title, "description": description, "tags": ["stockpredictor"], "schemaVersion": 39, "editable": True,
        "graphTooltip": 1, "refresh": "1m", "timezone": "browser", "time": {"from": since, "to": "now"},
        "templating": {"list": [datasource_variable(), *variables]}, "annotations": {"list": []}, "links": links, "panels": panels,
    }
