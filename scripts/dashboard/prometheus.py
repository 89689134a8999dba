"""A Prometheus, asked: queries of panels in, series out."""

import json
import urllib.error
import urllib.parse
import urllib.request


class Prometheus:
    """The HTTP API at an address, in a span of time."""

    def __init__(self, url, start, end, step):
        self.url, self.start, self.end, self.step = url.rstrip("/"), start, end, step

    def ask(self, path, **arguments):
        """The answer's data; raises ValueError with Prometheus' own words."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{json.load(error).get('error')}: {arguments['query']}") from error

    def now(self, expr):
        """[(labels, value)] at the end of the span."""
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=expr, time=self.end)]

    def over_time(self, expr):
        """[(labels, [(time, value)])] over the span."""
        found = self.ask("query_range", query=expr, start=self.start, end=self.end, step=self.step)
        return [(one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in found]
