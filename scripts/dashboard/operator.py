"""Operator: reconciles, errors, the queue, watches, and objects by condition."""

from . import queries as ask
from .panels import BAD, DOCS, GOOD, WARN, bars, column, dashboard, query, series, stat, table, variable
from .queries import both

UID = "stockpredictor-operator"
# The operator's series about itself keep the namespace of its pod.
O = 'namespace=~"$namespace"'
NAMESPACE = variable("namespace", "Namespace of the operator", "stockpredictor_operator_build_info, namespace")
NOT_READY = 'condition="Ready", status!="True"'
ANY_READY = 'condition="Ready"'
FAILED = 'result="error"'
HELP = [("The operator", f"{DOCS}/operator.md")]


def rate(name, by="", extra=""):
    """A counter's growth a second."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(stockpredictor_operator_{name}{both(O, extra)}[$__rate_interval]))"


def objects(extra):
    """Objects by condition."""
    return f"stockpredictor_operator_objects{both(O, extra)}"


def numbers():
    """How it is now."""
    running = f"count(stockpredictor_operator_build_info{both(O)}) or vector(0)"
    failed = f"({rate('reconciles_total', extra=FAILED)} or vector(0))"
    watches = rate("watch_events_total", extra='event="error"')
    return [
        stat("Operators", 4, running, "short", "Pods of the operator whose metrics Prometheus reads: one.",
             [(None, BAD), (1, GOOD), (2, WARN)], links=HELP),
        stat("Release", 4, f"max by (version) (stockpredictor_operator_build_info{both(O)})", "short",
             "The operator's release.", label="version"),
        stat("Objects not ready", 4, f"sum({objects(NOT_READY)}) or vector(0)", "short",
             "Objects of all kinds whose condition Ready is not True, those that are stopped on purpose among them.",
             [(None, GOOD), (1, WARN)], links=HELP),
        stat("Reconciles that fail", 4, f"{failed} / ({rate('reconciles_total')} > 0)", "percentunit",
             "Share of the reconciles that failed. They are tried again.", [(None, GOOD), (0.05, WARN), (0.25, BAD)], decimals=1, links=HELP),
        stat("Objects that wait", 4, f"max(stockpredictor_operator_queue_depth{both(O)})", "short",
             "Objects that wait for a reconcile, of the kind with most of them.", [(None, GOOD), (50, WARN), (500, BAD)]),
        stat("Failures of watches", 4, f"{watches} or vector(0)", "cps",
             "Failures of watches a second. Now and then one is normal; they are opened again.", [(None, GOOD), (0.1, WARN), (1, BAD)],
             decimals=2, links=HELP),
    ]


def work():
    """What it does."""
    return [
        series("Reconciles by kind and result", 8, [query(rate("reconciles_total", "kind, result"), "{{kind}} {{result}}")], "ops",
               "Finished reconciles a second."),
        series("Failed reconciles by category", 8,
               [query(rate("reconcile_errors_total", "kind, category"), "{{kind}} {{category}}")], "ops",
               "Failed reconciles a second by category of the error. Empty is good.", links=HELP),
        series("Duration of reconciles", 8,
               [query(ask.quantile(share, "stockpredictor_operator_reconcile_duration_seconds", O, ", kind"), f"{{{{kind}}}} {name}")
                for share, name in ((0.5, "p50"), (0.95, "p95"))],
               "s", "Half and 95 % of the reconciles took no longer, by kind."),
    ]


def queue():
    """What waits, and what it hears."""
    return [
        series("Objects that wait", 8, [query(f"max by (kind) (stockpredictor_operator_queue_depth{both(O)})", "{{kind}}")], "short",
               "Objects that wait for a reconcile, by kind. A line that goes on rising means that the operator does not keep up."),
        series("Objects being reconciled", 8,
               [query(f"max by (kind) (stockpredictor_operator_active_reconciles{both(O)})", "{{kind}}")], "short",
               "Objects that are being reconciled, by kind; at most the chart's value concurrency."),
        series("Requests for stats", 8, [query(rate("stats_polls_total", "result"), "{{result}}")], "reqps",
               "Requests of the operator for predictors' stats by result. When they fail beside a predictor that is ready, the "
               "operator's pod may not reach port 8080 of predictors.", links=HELP),
    ]


def watches():
    """What it hears from the API server."""
    return [
        series("Events of watches", 12, [query(rate("watch_events_total", "watch", 'event!="error"'), "{{watch}}")], "cps",
               "Events a second of each watch."),
        series("Failures of watches", 12, [query(rate("watch_events_total", "watch", 'event="error"'), "{{watch}}")], "cps",
               "Failures a second of each watch. The operator restarts when all stay silent. Empty is good.", links=HELP),
    ]


def conditions():
    """Objects by condition."""
    # These two are as they should be at False.
    wanted = 'status!="True", condition!~"Degraded|PredictorHeld"'
    unwanted = 'status="True", condition=~"Degraded|PredictorHeld"'
    bad = f"sum by (kind, condition, status) ({objects(wanted)} > 0 or {objects(unwanted)} > 0)"
    total = f"sum by (kind) ({objects(ANY_READY)})"
    return [
        bars("Objects by kind", 8, total, "{{kind}}", "short", "Objects that the operator looks after."),
        table("Conditions that are not good", 16, {"kind": "Kind", "condition": "Condition", "status": "Status"},
              [column("Objects", bad, width=110)],
              "Objects by kind and condition, those only whose condition is not as it should be. Empty is good.",
              sort=("Objects", True), links=[("Conditions and what to do", f"{DOCS}/operator.md")]),
    ]


def build():
    """The dashboard."""
    return dashboard(
        UID, "Stockpredictor / Operator", "Reconciles, errors, the queue, watches, and objects by condition.", [NAMESPACE],
        [
            (None, 3, numbers()),
            ("Objects", 6, conditions()),
            ("Work", 8, work()),
            ("Queue and stats", 8, queue()),
            ("Watches", 7, watches()),
        ],
    )
