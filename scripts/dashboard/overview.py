"""Overview: is every predictor fine, is there room, is there a backup?"""

from . import queries as ask
from .panels import BAD, CALM, DOCS, GOOD, RUNBOOKS, WARN, bars, column, dashboard, query, series, stat, table, variable
from .queries import N, both

UID = "stockpredictor-overview"
STATES = {0: ("Not ready", BAD), 1: ("Ready", GOOD), 2: ("Stopped", CALM), 3: ("Stopped", CALM)}
LEVELS = {0: ("None", BAD), 1: ("Stored", WARN), 2: ("Readable", GOOD), 3: ("Proven", GOOD)}
SOME_BAD = [(None, GOOD), (1, BAD)]
FULL = [(None, GOOD), (0.7, WARN), (0.8, BAD)]
LATE = [(None, GOOD), (1, WARN), (1.5, BAD)]
API = 'route=~"/api/.+"'
TO_PREDICTOR = (
    "Open this predictor",
    "/d/stockpredictor-predictor?var-datasource=${datasource}&var-namespace=${__data.fields.Namespace}"
    "&var-predictor=${__data.fields.Predictor}&${__url_time_range}",
)
TO_BACKUP = (
    "Open this backup",
    "/d/stockpredictor-backups?var-datasource=${datasource}&var-namespace=${__data.fields.Namespace}"
    "&var-name=${__data.fields.Backup}&${__url_time_range}",
)
NAMESPACES = variable(
    "namespace", "Namespace",
    '{__name__=~"stockpredictor_build_info|stockpredictor_operator_predictor_info", namespace!=""}, namespace', many=True,
)
ANY_PREDICTOR = 'predictor!=""'
FAILED = 'status=~"5.."'


def each(expr):
    """One value for each predictor, over its pods."""
    return f"max by (namespace, predictor) ({expr})"


def requests(extra=""):
    """Requests of the API a second, by predictor."""
    selector = both(N, API, extra)
    return f"sum by (namespace, predictor) (rate(stockpredictor_http_requests_total{selector}[$__rate_interval]))"


def backups_late():
    """Backups that are older than they may be."""
    share = f"{ask.age(N)} > on (namespace, name) {ask.allowed(N)}"
    return f"count({ask.running(share, N)}) or vector(0)"


def numbers():
    """What must be zero, or small."""
    stopped = "stockpredictor_operator_predictor_suspended" + both(N)
    unready = (
        f"count((max by (namespace, name) (stockpredictor_operator_predictor_ready{both(N)}) == 0)"
        f" unless on (namespace, name) ({stopped} == 1)) or vector(0)"
    )
    silent = f"count(max by (namespace, predictor) (up{both(N, ANY_PREDICTOR)}) == 0) or vector(0)"
    most = f"max({ask.used_share(N)})"
    return [
        stat("Predictors not ready", 4, unready, "short",
             "StockPredictors whose condition Ready is not True, those that are stopped on purpose not counted.", SOME_BAD,
             links=[("Conditions and what to do", f"{DOCS}/operator.md")]),
        stat("Predictors without metrics", 4, silent, "short",
             "Predictors none of whose pods could be read by Prometheus at the last scrape.", SOME_BAD),
        stat("Fullest volume", 4, most, "percentunit",
             "Used share of the volume that has the least room. The alert fires above 80 %.", FULL, decimals=0),
        stat("Backups too old", 4, backups_late(), "short",
             "StorageBackups whose newest backup is older than objectives.rpo, or without one older than their schedule allows. "
             "Suspended ones are not counted.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Backups that failed", 4,
             f"count({ask.backup('stockpredictor_operator_backup_last_run_success', N)} == 0) or vector(0)", "short",
             "StorageBackups whose last run failed.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Requests", 4, f"sum(rate(stockpredictor_http_requests_total{both(N, API)}[$__rate_interval]))", "reqps",
             "Requests of the API a second, of all predictors; probes and scrapes are not counted."),
    ]


def predictors():
    """The table of predictors."""
    newest = (
        f"{ask.age(N)} * on (namespace, name) group_right ()"
        f" max by (namespace, name, predictor) (stockpredictor_operator_backup_info{both(N)})"
    )
    columns = [
        column("State", ask.state(N, N), mapping=STATES, width=95),
        column("Pods", f"sum by (namespace, predictor) (up{both(N, ANY_PREDICTOR)})", width=70),
        column("Volume used", each(ask.used_share(N)), "percentunit", FULL, decimals=0, width=115),
        column("Free", each("stockpredictor_volume_free_bytes" + both(N)), "bytes", width=100),
        column("Data age", each(f"stockpredictor_data_age_sessions{both(N)}"), "short", width=95),
        column("Limit", each(f"stockpredictor_data_age_limit_sessions{both(N)}"), "short", width=70),
        column("Samples", each(f"stockpredictor_data_sample{both(N)}"),
               mapping={0: ("No", CALM), 1: ("Yes", CALM)}, width=90),
        column("Writes", each(f"stockpredictor_degraded{both(N)}"),
               mapping={0: ("Stored", GOOD), 1: ("Not stored", BAD)}, width=95),
        column("Requests", requests(), "reqps", width=105),
        column("Errors", f"({requests(FAILED)} or 0 * {requests()}) / ({requests()} > 0)", "percentunit",
               [(None, GOOD), (0.01, WARN), (0.05, BAD)], width=85, decimals=1),
        column("Newest backup", f"min by (namespace, predictor) ({newest})", "s", width=130, decimals=1),
    ]
    return table(
        "Predictors", 24, {"namespace": "Namespace", "predictor": "Predictor"}, columns,
        "A line for each predictor. Data age counts sessions that ended since the last one of the oldest history; with samples it is "
        "of no account. Writes that are not stored mean a full or read-only volume. Newest backup is the age of the newest successful one.",
        sort=("Predictor", False), key_links={"predictor": TO_PREDICTOR}, links=[("Conditions and what to do", f"{DOCS}/operator.md")],
    )


def fullest():
    """The volumes with the least room."""
    share = (
        f"max by (volume_id, namespace, predictor) ({ask.used_share(N)}"
        " * on (namespace, predictor, pod) group_left (volume_id) stockpredictor_volume_info)"
    )
    return bars("Volumes by use", 8, f"topk(10, topk by (volume_id) (1, {share}))", "{{namespace}}/{{predictor}}", "percentunit",
             "The ten fullest volumes. A volume that several predictors share is there once, under the name of one of them.", FULL,
             maximum=1, decimals=0)


def storage():
    """All volumes together, each once."""
    used = ask.by_volume("stockpredictor_volume_used_bytes", N)
    directories = f"sum by (directory) ({ask.by_volume('persistent_storage_size_bytes', N, ', directory')})"
    return [
        series("Storage in use", 12,
               [query(f"sum({used})", "used"),
                query(f"sum({ask.by_volume('stockpredictor_volume_capacity_bytes', N)})", "capacity")],
               "bytes", "Bytes in use and size of all volumes together, each volume counted once.", dashed="capacity"),
        series("Storage by directory", 12, [query(directories, "{{directory}}")], "bytes",
               "Bytes of the files below each directory, over all volumes, each volume counted once.", stacked=True),
    ]


def backups():
    """The table of backups."""
    def of(name):
        return ask.backup(f"stockpredictor_operator_backup_{name}", N)

    columns = [
        column("Last run", of("last_run_success"), mapping={0: ("Failed", BAD), 1: ("Succeeded", GOOD)}, width=120),
        column("Age", ask.age(N), "s", decimals=1, width=120),
        column("Of what is allowed", f"{ask.age(N)} / on (namespace, name) {ask.allowed(N)}", "percentunit", LATE, decimals=0, width=160),
        column("Level", of("level"), mapping=LEVELS, width=110),
        column("Suspect", of("suspect"), mapping={0: ("No", GOOD), 1: ("Yes", BAD)}, width=100),
        column("Suspended", of("suspended"), mapping={0: ("No", GOOD), 1: ("Yes", WARN)}, width=110),
        column("Size", of("newest_size_bytes"), "bytes", width=110),
        column("Next run in", f"{of('next_run_timestamp_seconds')} - time()", "s", decimals=1, width=130),
    ]
    return table(
        "Backups", 24, {"namespace": "Namespace", "name": "Backup"}, columns,
        "A line for each StorageBackup. Age is that of the newest successful backup; 100 % of what is allowed is objectives.rpo, or "
        "without one the longest time between two runs of the schedule.",
        sort=("Of what is allowed", True), key_links={"name": TO_BACKUP}, links=[("Backups", f"{DOCS}/backups.md")],
    )


def firing(names):
    """The table of alerts."""
    shown = f"max by (severity, alertname, namespace, predictor, name) ({ask.alerts(names, '')})"
    return table(
        "Alerts that fire", 16,
        {"severity": "Severity", "alertname": "Alert", "namespace": "Namespace", "predictor": "Predictor", "name": "Object"},
        [column("Firing", shown, mapping={1: ("Yes", BAD)}, width=100)],
        "Alerts of this project that fire now, of every namespace; each leads to its runbook. Empty is good.", sort=("Severity", False),
        key_links={"alertname": ("Runbook", f"{RUNBOOKS}/${{__data.fields.Alert}}.md")}, links=[("Runbooks", RUNBOOKS)],
    )


def build(names):
    """The dashboard; `names` is a pattern of our alerts' names."""
    return dashboard(
        UID, "Stockpredictor / Overview", "Whether every predictor is fine, has room and has a backup.", [NAMESPACES],
        [
            (None, 3, numbers()),
            (None, 6, [predictors()]),
            (None, 6, [firing(names), fullest()]),
            ("Backups", 6, [backups()]),
            ("Storage", 8, storage()),
        ],
    )
