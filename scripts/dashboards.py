#!/usr/bin/env python3
"""Writes the Grafana dashboards of the chart from scripts/dashboard/.

dashboards.py          rewrites charts/stockpredictor/files/dashboards/*.json
dashboards.py --check  only compares; exit status 1 says that a file is stale

Our alerts are known by the names in charts/stockpredictor/files/rules.yaml: run this after a change of them.
"""

import json
import pathlib
import re
import sys

from dashboard import backups, operator, overview, predictor

FILES = pathlib.Path(__file__).resolve().parent.parent / "charts" / "stockpredictor" / "files"
ALERT = re.compile(r"^\s*- alert: *[\"']?([A-Za-z]\w*)", re.MULTILINE)


def alert_names():
    """Names of the alerts in the rules, as they stand there."""
    return ALERT.findall((FILES / "rules.yaml").read_text())


def built():
    """The dashboards by file name."""
    names = "|".join(sorted(set(alert_names()))) or "none"
    made = {"overview": overview.build(names), "predictor": predictor.build(), "backups": backups.build(), "operator": operator.build()}
    return {f"{name}.json": json.dumps(one, indent=2, ensure_ascii=False) + "\n" for name, one in made.items()}


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    folder = FILES / "dashboards"
    folder.mkdir(exist_ok=True)
    wanted = built()
    stale = {path.name for path in folder.iterdir()} - wanted.keys()
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            stale.add(name)
            if not check:
                path.write_text(text)
    if check and stale:
        sys.exit(f"stale in charts/stockpredictor/files/dashboards: {', '.join(sorted(stale))}; run `make crds`")


if __name__ == "__main__":
    main()
