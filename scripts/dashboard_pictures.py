#!/usr/bin/env python3
"""Takes a picture of each dashboard: its panels' queries against a Prometheus, drawn by a page of our own.

dashboard_pictures.py PROMETHEUS_URL OUT_DIR [--since SPAN] [--only overview,…] [NAME=VALUE…]

SPAN, such as 6h, is each dashboard's own unless given. It needs Chromium (`chromium`, or $CHROMIUM). Variables: as for expressions.py. Exit status 1, with their titles, when
panels show nothing that should (see expressions.py). --sample in place of the URL starts a Prometheus with made-up series.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import expressions
from dashboard import draw, sample
from dashboard.prometheus import Prometheus

SPANS = {"m": 60, "h": 3600, "d": 86400}


def seconds(text):
    """The seconds of a span such as 6h."""
    match = re.fullmatch(r"(\d+)([mhd])", text)
    if not match:
        raise ValueError(f"'{text}' is no span: write 30m, 6h or 7d")
    return int(match[1]) * SPANS[match[2]]


def photograph(page, height, out):
    """The page as a PNG, as wide as a small laptop's screen."""
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch) / "page.html"
        source.write_text(page)
        subprocess.run(
            [os.environ.get("CHROMIUM", "chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={scratch}/profile", f"--window-size={draw.WIDTH},{height}", f"--screenshot={out.resolve()}", source.as_uri()],
            check=True, capture_output=True, timeout=120,
        )


def pictures(url, out, since, only, values):
    """Draws the dashboards; returns the titles of panels without data."""
    end, silent = int(time.time()), []
    for path in expressions.DASHBOARDS:
        if only and path.stem not in only:
            continue
        dashboard = json.loads(path.read_text())
        span = since or seconds(dashboard["time"]["from"].removeprefix("now-"))
        step = max(span // 240, 15)
        known = expressions.DEFAULTS | {"__interval": f"{step}s", "__rate_interval": f"{max(240, step)}s", "__range": f"{span}s"} | values
        prometheus = Prometheus(url, end - span, end, step)
        page = draw.Page(dashboard, prometheus, lambda expr, known=known: expressions.replaced(expr, known))
        source = "made-up series" if "sample" in values else "live data"
        said = f"{source}; drawn by scripts/dashboard_pictures.py from the dashboard's JSON, not by Grafana"
        text, height = page.html(said)
        photograph(text, height, out / f"{path.stem}.png")
        silent += [f"{path.stem}: {title}" for title in page.empty if title not in expressions.MAY_BE_EMPTY]
    return silent


def main():
    options, values, plain, arguments = {"--since": "", "--only": ""}, {}, [], iter(sys.argv[1:])
    for one in arguments:
        if one in options:
            options[one] = next(arguments, "")
        elif "=" in one and not one.startswith("http"):
            name, value = one.split("=", 1)
            values[name] = value
        else:
            plain.append(one)
    if len(plain) != 2:
        sys.exit(__doc__)
    url, out = plain[0], pathlib.Path(plain[1])
    out.mkdir(parents=True, exist_ok=True)
    try:
        since, only = options["--since"] and seconds(options["--since"]), set(filter(None, options["--only"].split(",")))
        if url == "--sample":
            with sample.Served() as served:
                silent = pictures(served.url, out, since, only, sample.VARIABLES | values)
        else:
            silent = pictures(url, out, since, only, values)
    except ValueError as error:
        sys.exit(str(error))
    if silent:
        sys.exit("panels without data:\n  " + "\n  ".join(silent))


if __name__ == "__main__":
    main()
