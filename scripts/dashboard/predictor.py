"""Predictor: traffic, latency, cache, accuracy, data and storage of one predictor."""

from . import queries as ask
from .overview import ANY_PREDICTOR, API, FAILED, FULL, STATES
from .panels import BAD, DOCS, GOOD, WARN, column, dashboard, query, series, stat, states, table, variable
from .queries import both

UID = "stockpredictor-predictor"
P = 'namespace=~"$namespace", predictor=~"$predictor"'
OF_OPERATOR = 'namespace=~"$namespace", name=~"$predictor"'
EACH = "{{symbol}}"
NAMESPACE = variable("namespace", "Namespace", f"stockpredictor_build_info{{{ANY_PREDICTOR}}}, namespace")
PREDICTOR = variable("predictor", "Predictor", 'stockpredictor_build_info{namespace="$namespace"}, predictor')


def rate(metric, by="", extra=""):
    """A counter's growth a second, over all pods."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{both(P, extra)}[$__rate_interval]))"


def quantiles(metric, extra=""):
    """Three quantiles of a histogram."""
    selector = ", ".join(part for part in (P, extra) if part)
    return [query(ask.quantile(share, metric, selector), name) for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))]


def once(metric):
    """A value of the volume, which every pod reports."""
    return f"max({metric}{both(P)})"


def numbers():
    """How it is now."""
    failed = rate("stockpredictor_http_requests_total", extra=f"{API}, {FAILED}")
    requests = rate("stockpredictor_http_requests_total", extra=API)
    hits = rate("stockpredictor_cache_hits_total")
    return [
        stat("State", 4, ask.state(OF_OPERATOR, P), "short", "The condition Ready; where no operator runs, whether it answers.",
             mapping=STATES, links=[("Conditions and what to do", f"{DOCS}/operator.md")]),
        stat("Requests", 4, requests, "reqps",
             "Requests of the API a second; probes and scrapes are not counted."),
        stat("Failed requests", 4, f"({failed} or vector(0)) / ({requests} > 0)", "percentunit",
             "Share of the API's answers with status 5xx.", [(None, GOOD), (0.01, WARN), (0.05, BAD)], decimals=1),
        stat("Latency, 95 %", 4, ask.quantile(0.95, "stockpredictor_http_request_duration_seconds", P + ", " + API), "s",
             "95 % of the API's answers took no longer.", [(None, GOOD), (0.25, WARN), (1, BAD)], decimals=1),
        stat("Cache hits", 4, f"{hits} / ({hits} + {rate('stockpredictor_cache_misses_total')} > 0)", "percentunit",
             "Share of the predictions that came from the cache.", decimals=0),
        stat("Volume used", 4, f"max({ask.used_share(P)})", "percentunit",
             "Used share of the volume. The alert fires above 80 %.", FULL, decimals=0,
             links=[("Commands that free space", f"{DOCS}/operator.md")]),
    ]


def traffic():
    """What is asked, and how long answers take."""
    return [
        series("Requests by route", 8, [query(rate("stockpredictor_http_requests_total", "route", API), "{{route}}")], "reqps",
               "Requests of the API a second by route."),
        series("Answers by status", 8, [query(rate("stockpredictor_http_requests_total", "status", API), "{{status}}")], "reqps",
               "Answers of the API a second by class of status: 4xx is the caller's doing, 5xx is ours."),
        series("Latency", 8, quantiles("stockpredictor_http_request_duration_seconds", API), "s",
               "Time from request to answer of the API: half, 95 % and 99 % took no longer."),
    ]


def model():
    """What computes the predictions."""
    pods = f"count by (name, version, sha256) (stockpredictor_model_info{both(P)})"
    short = f'label_replace({pods}, "sha256", "$1", "sha256", "(.{{12}}).*")'
    return [
        series("Predictions by symbol", 8, [query(rate("stockpredictor_predictions_total", "symbol"), EACH)], "reqps",
               "Predictions that were answered a second, by configured symbol."),
        series("Inference", 8, quantiles("stockpredictor_inference_duration_seconds"), "s",
               "Time that the model computed, waiting for a session of it included: half, 95 % and 99 % took no longer."),
        table("Model in use", 8, {"name": "Model", "version": "Version", "sha256": "SHA-256"},
              [column("Pods", short, width=70)],
              "The model that the pods have loaded, with the first 12 digits of its hash. Two lines that stay mean that pods disagree.",
              links=[("Models", f"{DOCS}/model.md")]),
    ]


def cache():
    """How much it saves."""
    return [
        series("Cache: hits and misses", 8,
               [query(rate("stockpredictor_cache_hits_total"), "hits"), query(rate("stockpredictor_cache_misses_total"), "misses")],
               "reqps", "Predictions a second that came from the cache, and that were computed.", stacked=True),
        series("Cache: entries", 8,
               [query(f"sum(stockpredictor_cache_entries{both(P)})", "entries"),
                query(f"sum(stockpredictor_cache_entries_limit{both(P)})", "limit")],
               "short", "Predictions in the cache, and how many it may keep, over all pods.", dashed="limit"),
        series("Cache: evictions", 8, [query(rate("stockpredictor_cache_evictions_total"), "evictions")], "cps",
               "Entries a second that made room for others. Many of them, with few hits, ask for a larger cache.maxEntries."),
    ]


def data():
    """What the predictions rest on, and what they were worth."""
    error = f"max by (symbol, forecast) (stockpredictor_prediction_error_ratio{both(P)})"
    age = f"max by (symbol) (stockpredictor_data_age_sessions{both(P)})"
    of = f"max by (symbol) (stockpredictor_data_as_of_timestamp_seconds{both(P)}) * 1000"
    sample = f"max by (symbol) (stockpredictor_data_sample{both(P)})"
    columns = [
        column("Last session", of, "dateTimeAsIso", width=170),
        column("Age", age, width=60),
        column("Sample", sample, mapping={0: ("No", GOOD), 1: ("Yes", WARN)}, width=75),
        column("Outcomes", f"max by (symbol) (stockpredictor_prediction_outcomes{both(P)})", width=85),
    ]
    return [
        series("Forecast error beside the random walk", 8, [query(error, "{{symbol}} {{forecast}}")], "percentunit",
               "Mean absolute error of the forecasts of the last 30 days whose real price is known, as a share of the price before; "
               "dashed: the forecast 'as today' on the same days. A model is worth something below its dashed line.",
               dashed=".*walk.*", decimals=2, minimum=None, links=[("What the numbers are worth", f"{DOCS}/model.md")]),
        series("Data age", 8,
               [query(age, EACH), query(f"max(stockpredictor_data_age_limit_sessions{both(P)})", "limit")], "short",
               "Sessions that ended since the last one of a symbol's history, and how many may be missing. Samples end in 2023 and "
               "raise no alert.", dashed="limit"),
        table("Data by symbol", 8, {"symbol": "Symbol"}, columns,
              "The last session that each history has, its age in sessions, whether it is the sample that came with the program, "
              "and how many forecasts of the last 30 days could be compared with the real price."),
    ]


def storage():
    """What lies on the volume."""
    return [
        series("Storage by directory", 8,
               [query(f"max by (directory) (persistent_storage_size_bytes{both(P)})", "{{directory}}")], "bytes",
               "Bytes of the files below each directory of the volume; replicas share it, so it is counted once.", stacked=True),
        series("Files by directory", 8,
               [query(f"max by (directory) (persistent_storage_files_total{both(P)})", "{{directory}}")], "short",
               "Files below each directory of the volume; counted once.", stacked=True),
        series("Volume", 8,
               [query(once("stockpredictor_volume_used_bytes"), "used"), query(once("stockpredictor_volume_free_bytes"), "free"),
                query(once("stockpredictor_volume_capacity_bytes"), "capacity")],
               "bytes", "Bytes of the volume in use, writable, and its size. Where claims are folders of one disk, it is the disk's.",
               dashed="capacity"),
    ]


def upkeep():
    """What keeps the volume usable."""
    runs = f"sum by (result) (increase(stockpredictor_cleanup_runs_total{both(P)}[$__rate_interval]))"
    due = f"max(stockpredictor_cleanup_interval_seconds{both(P)} > 0)"
    last = f"time() - max(stockpredictor_cleanup_last_success_timestamp_seconds{both(P)})"
    inodes = f"1 - {once('stockpredictor_volume_inodes_free')} / ({once('stockpredictor_volume_inodes')} > 0)"
    return [
        series("Cleanups", 6, [query(runs, "{{result}}"),
                               query(f"sum(increase(stockpredictor_cleanup_failures_total{both(P)}[$__rate_interval]))", "failures")],
               "short", "Cleanups of the volume in each step of time, by result.", counts=True, stacked=True),
        series("Time since the last cleanup", 6, [query(last, "since the last"), query(due, "interval")], "s",
               "How long ago the last complete cleanup ended, and how often one is due.", dashed="interval"),
        series("Freed by cleanups", 6, [query(rate("stockpredictor_cleanup_freed_bytes_total"), "freed")], "Bps",
               "Bytes a second of the files that cleanups removed."),
        series("Inodes used", 6, [query(inodes, "used")], "percentunit",
               "Used share of the file system's inodes; empty where it has no fixed number of them.", limit=FULL, maximum=1),
    ]


def health():
    """Each pod over time."""
    up = f"max by (pod) (up{both(P)})"
    return [
        states("Pods that answer", 8, [query(up, "{{pod}}")], "Whether Prometheus could read each pod's metrics.",
               {0: ("Silent", BAD), 1: ("Answers", GOOD)}),
        states("Predictions are stored", 8, [query(f"max by (pod) (stockpredictor_degraded{both(P)})", "{{pod}}")],
               "Predictions that are served but not stored mean a full or read-only volume.",
               {0: ("Stored", GOOD), 1: ("Not stored", BAD)}),
        series("Write errors", 8, [query(rate("stockpredictor_write_errors_total"), "write errors")], "cps",
               "Files a second that could not be written."),
    ]


def build():
    """The dashboard."""
    return dashboard(
        UID, "Stockpredictor / Predictor", "Traffic, latency, cache, accuracy, data and storage of one predictor.",
        [NAMESPACE, PREDICTOR],
        [
            (None, 3, numbers()),
            ("Traffic", 8, traffic()),
            ("Model", 8, model()),
            ("Accuracy and data", 8, data()),
            ("Cache", 8, cache()),
            ("Storage", 8, storage()),
            ("Upkeep", 7, upkeep()),
            ("Health", 5, health()),
        ],
    )
