"""A Prometheus with a week of made-up series: every metric of contracts/metrics.json, for three predictors and one operator.

It is for looking at dashboards without a cluster: two replicas share a volume, one predictor is down, one backup fails.
Nothing measured is in it.
"""

import json
import math
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

CONTRACT = pathlib.Path(__file__).resolve().parents[2] / "contracts" / "metrics.json"
VARIABLES = {"sample": "yes", "predictor": "nvda", "__rate_interval": "16m"}
STEP, SPAN, DAY = 240, 7 * 86400, 86400
PODS = {"nvda-0": ("trading", "nvda", "v-1"), "banks-0": ("trading", "banks", "v-2"), "banks-1": ("trading", "banks", "v-2"),
        "energy-0": ("research", "energy", "v-3")}
DIRECTORIES = {"backups": 3.1, "ml_cache": 0.2, "ml_models": 0.6, "stock_data": 1.9, "logs": 0.3, "scalers": 0.01, "config": 0.001}
GIB = 2**30
BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, math.inf]


def busy(at, scale, phase=0):
    """A rate that is higher by day; always above zero."""
    return scale * (1.15 + math.sin(2 * math.pi * (at % DAY) / DAY - 1.9 + phase) + 0.12 * math.sin(at / 900 + phase))


def total(at, start, scale, phase=0):
    """A counter that grows by about `busy` a second."""
    return scale * (1.15 * (at - start) - DAY / (2 * math.pi) * math.cos(2 * math.pi * (at % DAY) / DAY - 1.9 + phase) + DAY)


def histogram(name, labels, count, typical):
    """Buckets around a typical value."""
    for bound in BUCKETS:
        share = 1 if bound == math.inf else 1 / (1 + (typical / bound) ** 2.4)
        yield f"{name}_bucket", labels | {"le": "+Inf" if bound == math.inf else str(bound)}, count * share
    yield f"{name}_sum", labels, count * typical
    yield f"{name}_count", labels, count


def predictor(at, start, pod, symbols, number):
    """A predictor's own series at a time."""
    namespace, name, volume = PODS[pod]
    gone = at - start
    yield "stockpredictor_build_info", {"version": "0.1.0"}, 1
    yield "stockpredictor_volume_info", {"volume_id": volume}, 1
    model = {"name": f"{name}_lstm_model", "version": "2026-10-30", "sha256": "0f343b0931126a20" * 4}
    yield "stockpredictor_model_info", model, 1
    capacity = (10 if name != "energy" else 8) * GIB
    grown = 1 + gone / SPAN * 0.15
    used = sum(DIRECTORIES.values()) * GIB * grown
    for key, value in (("capacity", capacity), ("used", used), ("free", capacity - used)):
        yield f"stockpredictor_volume_{key}_bytes", {}, value
    yield "stockpredictor_volume_inodes", {}, 655360
    yield "stockpredictor_volume_inodes_free", {}, 655360 - 21000 * grown
    for index, (directory, size) in enumerate(DIRECTORIES.items()):
        saw = 1 + 0.25 * ((gone / 21600) % 1) if directory == "ml_cache" else grown
        yield "persistent_storage_size_bytes", {"directory": directory}, size * GIB * saw
        yield "persistent_storage_files_total", {"directory": directory}, round((40 + 300 * index) * saw)
    for route, scale, typical in (("/api/v1/predict/{symbol}", 2, 0.004), ("/api/v1/historical/{symbol}", 0.4, 0.008), ("/api/v1/stats", 0.1, 0.002)):
        count = total(at, start, scale, number)
        for status, share in (("2xx", 0.985), ("4xx", 0.012), ("5xx", 0.003)):
            yield "stockpredictor_http_requests_total", {"route": route, "status": status}, count * share
        yield from histogram("stockpredictor_http_request_duration_seconds", {"route": route}, count, typical)
    for index, symbol in enumerate(symbols):
        label = {"symbol": symbol}
        yield "stockpredictor_predictions_total", label, total(at, start, 0.9 / (index + 1), index)
        day = at % DAY / DAY
        yield "stockpredictor_data_age_sessions", label, (1 if day < 0.9 else 0) + (symbol == "XOM") * 6
        yield "stockpredictor_data_as_of_timestamp_seconds", label, (at // DAY - 1) * DAY
        yield "stockpredictor_data_sample", label, 0
        yield "stockpredictor_prediction_outcomes", label, 20
        walk = 0.0141 + 0.002 * index + 0.001 * math.sin(at / DAY + index)
        yield "stockpredictor_prediction_error_ratio", label | {"forecast": "random_walk"}, walk
        yield "stockpredictor_prediction_error_ratio", label | {"forecast": "model"}, walk * (0.985 + 0.02 * math.sin(at / DAY / 2 + index))
    yield "stockpredictor_data_age_limit_sessions", {}, 3
    yield from histogram("stockpredictor_inference_duration_seconds", {}, total(at, start, 0.3, number), 0.0012)
    yield "stockpredictor_cache_hits_total", {}, total(at, start, 1.7, number)
    yield "stockpredictor_cache_misses_total", {}, total(at, start, 0.3, number)
    yield "stockpredictor_cache_evictions_total", {}, total(at, start, 0.01, number)
    yield "stockpredictor_cache_entries", {}, round(busy(at, 300))
    yield "stockpredictor_cache_entries_limit", {}, 1000
    runs = gone // 21600
    for result, count in (("done", runs), ("incomplete", 0), ("skipped", runs // 9), ("failed", runs // 12)):
        yield "stockpredictor_cleanup_runs_total", {"result": result}, count
    yield "stockpredictor_cleanup_failures_total", {}, runs // 12
    yield "stockpredictor_cleanup_freed_bytes_total", {}, runs * 5e7
    yield "stockpredictor_cleanup_interval_seconds", {}, 21600
    yield "stockpredictor_cleanup_last_success_timestamp_seconds", {}, start + runs * 21600
    yield "stockpredictor_write_errors_total", {}, 0
    yield "stockpredictor_degraded", {}, 0


def backup(at, start, name, every, predictor_name, fails):
    """The operator's series about a StorageBackup at a time."""
    of = {"namespace": "trading", "name": name}
    ran = start - DAY + (at - start + DAY - 300) // every * every + 300
    failed = fails and at > start + 4 * DAY
    prefix = "stockpredictor_operator_backup"
    yield "backup_last_success_timestamp", of, (start + 4 * DAY) // 60 * 60 if failed else ran
    size = 7.2e8 * (1 + (at - start) / SPAN * 0.1) * (1 if every > DAY else 0.12)
    plain = {
        "created_timestamp_seconds": start - DAY, "expected_interval_seconds": every, "last_run_duration_seconds": 41 + 6 * math.sin(ran),
        "last_run_success": 0 if failed else 1, "last_run_timestamp_seconds": ran, "level": 3 if every > DAY else 2,
        "newest_size_bytes": size, "next_run_timestamp_seconds": ran + every, "suspect": 0, "suspended": 0,
    }
    if not fails:
        plain["rpo_seconds"] = every * 1.1
    for key, value in plain.items():
        yield f"{prefix}_{key}", of, value
    yield f"{prefix}_info", of | {"predictor": predictor_name}, 1
    for place, share in (("volume", 10), ("offsite", 22)):
        to = of | {"destination": place}
        yield f"{prefix}_archives", to, share
        yield f"{prefix}_destination_size_bytes", to, size * share
        yield f"{prefix}_destination_reachable", to, 0 if failed and place == "offsite" else 1
    for level, back in (("Stored", 0), ("Readable", 0), ("Proven", 2 * DAY)):
        yield f"{prefix}_verified_timestamp_seconds", of | {"level": level}, ran - back
    tested = "stockpredictor_operator_restore_test"
    yield f"{tested}_expected_interval_seconds", of, 7 * DAY
    yield f"{tested}_last_run_success", of, 1
    yield f"{tested}_last_run_timestamp_seconds", of, start + (-DAY if at < start + 5 * DAY else 5 * DAY)


def restore(at, began):
    """The operator's series about a StorageRestore."""
    of = {"namespace": "trading", "name": "nvda-restore"}
    if at < began:
        return
    phases = ["Pending", "Preflight", "Holding", "Preparing", "Switching", "Starting", "Committing", "Completed"]
    now = min(int((at - began) // 1800), len(phases) - 1)
    for index, phase in enumerate(phases):
        yield "stockpredictor_operator_restore_phase", of | {"phase": phase}, int(index == now)
    yield "stockpredictor_operator_restore_duration_seconds", of, 1800 * now
    if now == len(phases) - 1:
        yield "stockpredictor_operator_restore_finished_timestamp_seconds", of, began + 1800 * now


def operator(at, start):
    """The operator's own series and those of its objects at a time."""
    prefix = "stockpredictor_operator"
    yield f"{prefix}_build_info", {"version": "0.1.0"}, 1
    for index, (kind, count) in enumerate((("StockPredictor", 3), ("StorageBackup", 3), ("StorageRestore", 1))):
        bad = int(index < 2 and at > start + 5 * DAY)
        yield f"{prefix}_objects", {"kind": kind, "condition": "Ready", "status": "True"}, count - bad
        yield f"{prefix}_objects", {"kind": kind, "condition": "Ready", "status": "False"}, bad
        for result, scale in (("success", 0.05), ("error", 0.0004)):
            yield f"{prefix}_reconciles_total", {"kind": kind, "result": result}, total(at, start, scale / (index + 1), index)
        yield f"{prefix}_reconcile_errors_total", {"kind": kind, "category": "conflict"}, total(at, start, 0.0004 / (index + 1), index)
        yield from histogram(f"{prefix}_reconcile_duration_seconds", {"kind": kind}, total(at, start, 0.05, index), 0.03)
        yield f"{prefix}_queue_depth", {"kind": kind}, round(busy(at, 0.4, index))
        yield f"{prefix}_active_reconciles", {"kind": kind}, round(busy(at, 0.3, index))
    for result, scale in (("success", 0.1), ("error", 0.001)):
        yield f"{prefix}_stats_polls_total", {"kind": "StockPredictor", "result": result}, total(at, start, scale)
    for index, watch in enumerate(("stockpredictors", "storagebackups", "deployments", "pods")):
        yield f"{prefix}_watch_events_total", {"watch": watch, "event": "apply"}, total(at, start, 0.08 / (index + 1), index)
        yield f"{prefix}_watch_events_total", {"watch": watch, "event": "error"}, (at - start) // DAY
    for namespace, name in (("trading", "nvda"), ("trading", "banks"), ("research", "energy")):
        of = {"namespace": namespace, "name": name}
        down = name == "energy" and at > start + 5 * DAY
        yield f"{prefix}_predictor_info", of | {"claim": name}, 1
        yield f"{prefix}_predictor_ready", of, int(not down)
        yield f"{prefix}_predictor_suspended", of, 0
    yield from backup(at, start, "nvda-daily", DAY, "nvda", False)
    yield from backup(at, start, "nvda-weekly", 7 * DAY, "nvda", False)
    yield from backup(at, start, "banks-daily", DAY, "banks", True)
    yield from restore(at, start + 6 * DAY)


def series(start, first, end):
    """Every series at every step since `first`, with the labels of its target; the story begins at `start`."""
    symbols = {"nvda": ["NVDA", "TSLA", "AAPL"], "banks": ["JPM", "GS"], "energy": ["XOM"]}
    at = first
    while at <= end:
        for number, (pod, (namespace, name, _)) in enumerate(PODS.items()):
            target = {"job": "stockpredictor/predictors", "instance": pod, "namespace": namespace, "predictor": name, "pod": pod}
            down = name == "energy" and at > start + 5 * DAY
            yield "up", target, int(not down), at
            for metric, labels, value in () if down else predictor(at, start, pod, symbols[name], number):
                yield metric, target | labels, value, at
        target = {"job": "stockpredictor/operator", "instance": "operator-0", "namespace": "stockpredictor", "pod": "operator-0"}
        yield "up", target, 1, at
        if at > start + 4 * DAY:
            alert = {"alertname": "StorageBackupFailed", "alertstate": "firing", "severity": "warning"}
            yield "ALERTS", alert | {"namespace": "trading", "name": "banks-daily"}, 1, at
        for metric, labels, value in operator(at, start):
            yield metric, target | labels, value, at
        at += STEP


class Served:
    """A Prometheus with the last `span` seconds of it, on this machine only, while the `with` lasts."""

    def __init__(self, span=SPAN):
        self.span = span
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self):
        self.scratch, names = pathlib.Path(tempfile.mkdtemp()), set()
        self.end = end = int(time.time())
        with open(self.scratch / "series", "w", encoding="utf-8") as out:
            for metric, labels, value, at in series(end - SPAN, end - self.span, end):
                names.add(metric)
                inside = ",".join(f'{key}="{content}"' for key, content in labels.items())
                out.write(f"{metric}{{{inside}}} {value:.10g} {at}\n")
            out.write("# EOF\n")
        wanted = {one["name"] for one in json.loads(CONTRACT.read_text())["metrics"]}
        made = {name.rsplit("_", 1)[0] if name.endswith(("_bucket", "_sum", "_count")) else name for name in names} - {"up", "ALERTS"}
        if made != wanted:
            raise ValueError(f"the sample is not the contract: {sorted(made ^ wanted)}")
        data = self.scratch / "data"
        subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", self.scratch / "series", data], check=True, capture_output=True)
        (self.scratch / "prometheus.yml").write_text("scrape_configs: []\n")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={self.scratch}/prometheus.yml", f"--storage.tsdb.path={data}",
             "--storage.tsdb.retention.time=30d", f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=error"],
        )
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
                    return self
            except OSError:
                time.sleep(0.2)
        raise ValueError("Prometheus did not get ready")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.scratch)
