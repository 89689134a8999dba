"""Expressions that several dashboards share, and what they mean.

Series of a predictor have the target's labels `namespace`, `predictor` and `pod`; those of the operator about an object
have the object's `namespace` and `name`. Names of metrics and labels: contracts/metrics.json.
"""

N = 'namespace=~"$namespace"'


def both(*parts):
    """Label matchers joined."""
    return "{" + ", ".join(part for part in parts if part) + "}"


def by_volume(metric, selector, also=""):
    """A metric of volumes with each volume once: replicas, and predictors that share one, report the same."""
    return (
        f"max by (volume_id{also}) ({metric}{both(selector)}"
        " * on (namespace, predictor, pod) group_left (volume_id) stockpredictor_volume_info)"
    )


def used_share(selector):
    """Used share of a volume as `df` counts it and as the alerts do: blocks that only root may use are neither used nor free."""
    used, free = (f"stockpredictor_volume_{one}_bytes{both(selector)}" for one in ("used", "free"))
    return f"{used} / ({used} + {free} > 0)"


def by_predictor(expr):
    """Series of the operator about StockPredictors, with `predictor` in place of `name`, so that they meet the predictor's own."""
    return f'max by (namespace, predictor) (label_replace({expr}, "predictor", "$1", "name", "(.+)"))'


def quantile(share, metric, selector, by=""):
    """A quantile of a histogram, over all pods."""
    return f"histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{both(selector)}[$__rate_interval])))"


def state(selector_operator, selector_up):
    """Of each predictor: 0 not ready, 1 ready, 2 or 3 stopped on purpose; where no operator runs, whether it answers."""
    told = (
        f"stockpredictor_operator_predictor_ready{both(selector_operator)}"
        f" + 2 * stockpredictor_operator_predictor_suspended{both(selector_operator)}"
    )
    answers = "up" + both(selector_up, 'predictor!=""')
    return f"{by_predictor(told)} or max by (namespace, predictor) ({answers})"


def backup(metric, selector):
    """A series of the operator about StorageBackups, without the operator's own labels."""
    return f"max by (namespace, name) ({metric}{both(selector)})"


def age(selector):
    """Seconds since the last successful backup began; before the first, since the StorageBackup was made."""
    return (
        f"(time() - (({backup('backup_last_success_timestamp', selector)} > 0)"
        f" or {backup('stockpredictor_operator_backup_created_timestamp_seconds', selector)}))"
    )


def allowed(selector):
    """The age that a backup may have: its objective, else the longest time between two runs of its schedule."""
    return (
        f"({backup('stockpredictor_operator_backup_rpo_seconds', selector)}"
        f" or {backup('stockpredictor_operator_backup_expected_interval_seconds', selector)})"
    )


def running(expr, selector):
    """The part of `expr` whose StorageBackup is not suspended."""
    return f"({expr}) unless on (namespace, name) ({backup('stockpredictor_operator_backup_suspended', selector)} == 1)"


def alerts(names, selector):
    """Our alerts that fire."""
    return "ALERTS" + both(f'alertname=~"{names}"', 'alertstate="firing"', selector)
