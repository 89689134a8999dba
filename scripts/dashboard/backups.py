"""Backups & restores: when, how large, how old against what is allowed, how far proven; and what restores took."""

from . import queries as ask
from .overview import LATE, LEVELS, NAMESPACES, SOME_BAD, backups_late
from .panels import BAD, CALM, DOCS, GOOD, WARN, column, dashboard, query, series, stat, states, table, variable
from .queries import N, both

UID = "stockpredictor-backups"
B = f'{N}, name=~"$name"'
EACH = "{{namespace}}/{{name}}"
AT = "{{namespace}}/{{name}} {{destination}}"
NAME = variable("name", "Backup", 'backup_last_success_timestamp{namespace=~"$namespace"}, name', many=True)
ENDED = "Completed|Planned|RolledBack|Failed"


def of(name, selector=B):
    """A series about StorageBackups or StorageRestores."""
    return ask.backup(f"stockpredictor_operator_{name}", selector)


def at(name):
    """A series about the destinations of StorageBackups."""
    return f"max by (namespace, name, destination) (stockpredictor_operator_backup_{name}{both(B)})"


def share():
    """Age of the newest backup as a share of what is allowed."""
    return f"{ask.age(B)} / on (namespace, name) {ask.allowed(B)}"


def test_age():
    """Seconds since the last restore test ended."""
    return f"time() - {of('restore_test_last_run_timestamp_seconds')}"


def numbers():
    """What must be zero."""
    open_restores = both(N, f'phase!~"{ENDED}"')
    return [
        stat("Last run failed", 4, f"count({of('backup_last_run_success')} == 0) or vector(0)", "short",
             "StorageBackups whose last run failed.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Too old", 4, backups_late().replace(both(N), both(B)), "short",
             "StorageBackups whose newest backup is older than objectives.rpo, or without one older than their schedule allows. "
             "Suspended ones are not counted.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Suspect", 4, f"count({of('backup_suspect')} == 1) or vector(0)", "short",
             "StorageBackups whose newest backup lost much of the data that the one before had, and was not accepted.", SOME_BAD,
             links=[("Suspect backups", f"{DOCS}/backups.md")]),
        stat("Restore tests that failed", 4, f"count({of('restore_test_last_run_success')} == 0) or vector(0)", "short",
             "StorageBackups whose last restore test failed.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Destinations out of reach", 4, f"count({at('destination_reachable')} == 0) or vector(0)", "short",
             "Destinations that the last run could not reach.", SOME_BAD, links=[("Backups", f"{DOCS}/backups.md")]),
        stat("Restores under way", 4,
             f"sum(max by (namespace, name) (stockpredictor_operator_restore_phase{open_restores})) or vector(0)", "short",
             "StorageRestores that have not ended. While one works on a volume its predictor is stopped.",
             [(None, GOOD), (1, CALM)], links=[("Restores", f"{DOCS}/restores.md")]),
    ]


def overview():
    """A line for each StorageBackup."""
    columns = [
        column("Last run", of("backup_last_run_success"), mapping={0: ("Failed", BAD), 1: ("Succeeded", GOOD)}, width=100),
        column("Age", ask.age(B), "s", decimals=1, width=95),
        column("Allowed", f"max by (namespace, name) ({ask.allowed(B)})", "s", decimals=1, width=95),
        column("Share", share(), "percentunit", LATE, decimals=0, width=75),
        column("Level", of("backup_level"), mapping=LEVELS, width=95),
        column("Suspect", of("backup_suspect"), mapping={0: ("No", GOOD), 1: ("Yes", BAD)}, width=85),
        column("Suspended", of("backup_suspended"), mapping={0: ("No", GOOD), 1: ("Yes", WARN)}, width=100),
        column("Size", of("backup_newest_size_bytes"), "bytes", width=90),
        column("Took", of("backup_last_run_duration_seconds"), "s", decimals=1, width=85),
        column("Next run in", f"{of('backup_next_run_timestamp_seconds')} - time()", "s", decimals=1, width=105),
        column("Test", of("restore_test_last_run_success"), mapping={0: ("Failed", BAD), 1: ("Succeeded", GOOD)}, width=100),
        column("Test age", test_age(), "s", decimals=1, width=90),
    ]
    return table(
        "Backups", 24, {"namespace": "Namespace", "name": "Backup"}, columns,
        "A line for each StorageBackup. Age is that of the newest successful backup; Allowed is objectives.rpo, or without one the "
        "longest time between two runs of the schedule. Test is the last restore test. Empty means: none yet, or none asked for.",
        sort=("Share", True), links=[("Backups", f"{DOCS}/backups.md")],
    )


def time_line():
    """What happened when."""
    runs = f"max by (namespace, name) (stockpredictor_operator_backup_last_run_success{both(B)})"
    ended = f"max by (namespace, name) (changes(stockpredictor_operator_backup_last_run_timestamp_seconds{both(B)}[1h]))"
    return [
        states("Last run", 8, [query(runs, EACH)], "How the last run of each StorageBackup ended, over time.",
               {0: ("Failed", BAD), 1: ("Succeeded", GOOD)}),
        states("Level of the newest backup", 8, [query(of("backup_level"), EACH)],
               "How far the newest backup is proven: Stored, its bytes are right; Readable, every file in it is; Proven, it was restored "
               "and its models gave their golden predictions again.", LEVELS, links=[("Levels", f"{DOCS}/backups.md")]),
        series("Runs in an hour", 8, [query(ended, EACH)], "short", "Runs that ended in the hour before.", counts=True),
    ]


def ages():
    """Age against what is allowed."""
    proven = f"time() - max by (namespace, name, level) (stockpredictor_operator_backup_verified_timestamp_seconds{both(B)})"
    tests = f"({test_age()}) / on (namespace, name) {of('restore_test_expected_interval_seconds')}"
    return [
        series("Age of the newest backup, of what is allowed", 8, [query(share(), EACH)], "percentunit",
               "100 % is objectives.rpo, or without one the longest time between two runs of the schedule. A saw is healthy; a line that "
               "goes on rising is not.", limit=[(None, GOOD), (1, BAD)], links=[("Backups", f"{DOCS}/backups.md")]),
        series("Time since a level was reached", 8, [query(proven, "{{namespace}}/{{name}} {{level}}")], "s",
               "How long ago a backup that is still there last reached each level or a higher one."),
        series("Age of the restore test, of its schedule", 8, [query(tests, EACH)], "percentunit",
               "100 % is the longest time between two restore tests of the schedule.", limit=[(None, GOOD), (1, BAD)],
               links=[("Restore tests", f"{DOCS}/backups.md")]),
    ]


def sizes():
    """How much it is, and where."""
    return [
        series("Size of the newest backup", 6, [query(of("backup_newest_size_bytes"), EACH)], "bytes",
               "A sudden drop means that data is missing: the guard marks such a backup as suspect."),
        series("Archives at destinations, size", 6, [query(at("destination_size_bytes"), AT)], "bytes",
               "Size of the archives of each StorageBackup at each destination, as its last run found them."),
        series("Archives at destinations, number", 6, [query(at("archives"), AT)], "short",
               "Archives of each StorageBackup at each destination, as its last run found them."),
        series("Duration of the last run", 6, [query(of("backup_last_run_duration_seconds"), EACH)], "s", "How long the last run took."),
    ]


def reach():
    """Which destinations were reached."""
    return [
        states("Destinations reached", 12, [query(at("destination_reachable"), AT)], "Whether the last run reached each destination.",
               {0: ("Out of reach", BAD), 1: ("Reached", GOOD)}),
        states("Suspect backups", 12, [query(of("backup_suspect"), EACH)],
               "Whether the newest backup lost much of the data that the one before had, and was not accepted.",
               {0: ("Sound", GOOD), 1: ("Suspect", BAD)}, links=[("Suspect backups", f"{DOCS}/backups.md")]),
    ]


def restores():
    """Restores and their measured time."""
    phase = f"max by (namespace, name, phase) (stockpredictor_operator_restore_phase{both(N)} == 1)"
    # Multiplied by the phase, each value gets the phase's label: one line for each restore.
    def beside(name):
        return f"{phase} * on (namespace, name) group_left () max by (namespace, name) (stockpredictor_operator_restore_{name}{both(N)})"

    columns = [
        column("Current", phase, mapping={1: ("Yes", CALM)}, width=80),
        column("Took", beside("duration_seconds"), "s", decimals=1, width=90),
        column("Ended", f"time() - ({beside('finished_timestamp_seconds')})", "s", decimals=1, width=110),
    ]
    return [
        table("Restores", 12, {"namespace": "Namespace", "name": "Restore", "phase": "Phase"}, columns,
              "A line for each StorageRestore: the phase that it is in, the time that it took, and how long ago it ended.",
              sort=("Ended", False), links=[("Restores", f"{DOCS}/restores.md")]),
        states("Restores by phase", 12,
               [query(f"max by (namespace, name, phase) (stockpredictor_operator_restore_phase{both(N)} == 1)", "{{name}} {{phase}}")],
               "The phases that each StorageRestore was in, over time.", {1: ("In this phase", CALM)},
               links=[("Restores", f"{DOCS}/restores.md")]),
    ]


def build():
    """The dashboard."""
    return dashboard(
        UID, "Stockpredictor / Backups & restores",
        "When backups ran, how large and old they are, how far they are proven, and what restores took.", [NAMESPACES, NAME],
        [
            (None, 3, numbers()),
            (None, 6, [overview()]),
            ("Timeline", 7, time_line()),
            ("Age", 8, ages()),
            ("Sizes", 8, sizes()),
            ("Destinations", 6, reach()),
            ("Restores", 8, restores()),
        ],
        since="now-7d",
    )
