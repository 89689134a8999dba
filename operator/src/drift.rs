//! Whether a live object still is what the operator wants.
//!
//! In: the desired object, as it would be applied, and the live one, both as JSON. Out: the path of the first owned
//! field that differs, or nothing. What the desired object doesn't name isn't ours and is never looked at, except inside of
//! values that server-side apply replaces as a whole. Forbidden here: any knowledge of single kinds beyond the merge keys
//! of their lists, their atomic values, and the defaults in those.

use serde_json::{Map, Value};

use crate::quantity;

/// Members whose value server-side apply replaces as a whole. A member that somebody added to one of them changes what it
/// selects, so they have to be equal.
const ATOMIC: [&str; 6] = [
    "selector",
    "matchLabels",
    "podSelector",
    "namespaceSelector",
    "labelSelector",
    "nodeSelector",
];

/// Members that map free keys to text. The API server keeps empty values there and drops the map when it is empty.
const MAPS: [&str; 6] = [
    "labels",
    "annotations",
    "data",
    "selector",
    "matchLabels",
    "nodeSelector",
];

/// How much a live value may have that the desired one doesn't name.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Anything.
    Subset,
    /// Nothing here, anything below: the members of a volume are sources that exclude each other.
    Source,
    /// Nothing, here and below, except for defaults of the API server.
    Exact,
}

/// The first owned field of `desired` that `live` doesn't have, as a path such as `spec.replicas`.
pub fn first_difference(desired: &Value, live: &Value) -> Option<String> {
    let mut path = Vec::new();
    differs(desired, live, Mode::Subset, &mut path).then(|| path.join("."))
}

/// Compares depth first; `path` is left at the difference when there is one.
fn differs(desired: &Value, live: &Value, mode: Mode, path: &mut Vec<String>) -> bool {
    match (desired, live) {
        (Value::Object(wanted), Value::Object(have)) => members_differ(wanted, have, mode, path),
        (Value::Array(wanted), Value::Array(have)) => items_differ(wanted, have, mode, path),
        (Value::String(wanted), Value::String(have)) if is_quantity(path) => {
            wanted != have
                && (quantity::parse(wanted).is_none()
                    || quantity::parse(wanted) != quantity::parse(have))
        }
        _ => desired != live,
    }
}

fn members_differ(
    wanted: &Map<String, Value>,
    have: &Map<String, Value>,
    mode: Mode,
    path: &mut Vec<String>,
) -> bool {
    for (key, value) in wanted {
        path.push(key.clone());
        let below = match mode {
            Mode::Exact => Mode::Exact,
            _ if ATOMIC.contains(&key.as_str()) => Mode::Exact,
            _ => Mode::Subset,
        };
        let different = match have.get(key) {
            Some(live) => differs(value, live, below, path),
            None => !is_dropped(value, mode, path),
        };
        if different {
            return true;
        }
        path.pop();
    }
    if mode == Mode::Subset {
        return false;
    }
    for (key, live) in have.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
        path.push(key.clone());
        if !is_dropped(live, mode, path) && !is_default(live, path) {
            return true;
        }
        path.pop();
    }
    false
}

fn items_differ(wanted: &[Value], have: &[Value], mode: Mode, path: &mut Vec<String>) -> bool {
    let keys = if mode == Mode::Exact {
        None
    } else {
        merge_keys(path)
    };
    let Some(keys) = keys else {
        // An atomic list is ours as a whole: its length and order too.
        if wanted.len() != have.len() {
            return true;
        }
        return wanted
            .iter()
            .zip(have)
            .enumerate()
            .any(|(index, (value, live))| {
                path.push(index.to_string());
                let different = differs(value, live, Mode::Exact, path);
                if !different {
                    path.pop();
                }
                different
            });
    };
    let mode = match path.last().map(String::as_str) {
        Some("volumes") => Mode::Source,
        // A value, or one of several sources of it.
        Some("env") => Mode::Exact,
        _ => Mode::Subset,
    };
    wanted.iter().any(|value| {
        path.push(
            keys.iter()
                .map(|key| text(&value[key]))
                .collect::<Vec<_>>()
                .join("/"),
        );
        let partner = have.iter().find(|live| {
            keys.iter()
                .all(|key| same_key(key, &value[key], &live[key]))
        });
        let different = partner.is_none_or(|live| differs(value, live, mode, path));
        if !different {
            path.pop();
        }
        different
    })
}

/// The keys by which server-side apply merges the list at `path`; nothing for an atomic list.
fn merge_keys(path: &[String]) -> Option<&'static [&'static str]> {
    let list = path.last()?.as_str();
    let in_container = path
        .iter()
        .any(|step| step == "containers" || step == "initContainers");
    Some(match list {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "ports" if in_container => &["containerPort", "protocol"],
        // A NetworkPolicy's ports are atomic, a Service's are not.
        "ports" if path.len() == 2 => &["port", "protocol"],
        "ownerReferences" => &["uid"],
        "conditions" => &["type"],
        _ => return None,
    })
}

/// Keys are equal, an absent protocol being TCP.
fn same_key(key: &str, wanted: &Value, have: &Value) -> bool {
    let default = Value::from("TCP");
    let or_default = |value: &Value| {
        if key == "protocol" && value.is_null() {
            default.clone()
        } else {
            value.clone()
        }
    };
    or_default(wanted) == or_default(have)
}

fn is_quantity(path: &[String]) -> bool {
    let last = path.last().map(String::as_str);
    matches!(parent(path), Some("requests" | "limits" | "capacity"))
        || matches!(last, Some("sizeLimit" | "divisor"))
}

/// True for what the API server drops: to want it and to have nothing is the same.
fn is_dropped(value: &Value, mode: Mode, path: &[String]) -> bool {
    match value {
        Value::String(text) => text.is_empty() && !parent(path).is_some_and(|p| MAPS.contains(&p)),
        // An empty selector selects everything, and an absent one nothing; only empty maps are dropped.
        Value::Object(members) if mode != Mode::Subset => {
            members.is_empty() && path.last().is_some_and(|key| MAPS.contains(&key.as_str()))
        }
        _ => is_empty(value),
    }
}

/// True for a member that the API server adds to a value that has to be equal otherwise.
fn is_default(live: &Value, path: &[String]) -> bool {
    match (parent(path), path.last().map(String::as_str)) {
        (Some("fieldRef"), Some("apiVersion")) => live == "v1",
        (Some("resourceFieldRef"), Some("divisor")) => live == "0",
        (Some("fileKeyRef"), Some("optional")) => live == false,
        (_, Some("protocol")) => live == "TCP",
        _ => false,
    }
}

/// The step before the last one.
fn parent(path: &[String]) -> Option<&str> {
    path.len().checked_sub(2).map(|index| path[index].as_str())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        _ => false,
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn in_pod(container: &Value) -> Value {
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    }

    #[rstest]
    #[case::equal(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 1}}))]
    #[case::a_foreign_label(json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {"labels": {"a": "b", "team": "quant"}}}))]
    #[case::a_default_of_the_server(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 1, "progressDeadlineSeconds": 600}}))]
    #[case::an_empty_member_that_the_server_dropped(json!({"spec": {"nodeSelector": {}, "tolerations": [], "a": null}}), json!({"spec": {}}))]
    #[case::quantities(
        in_pod(&json!({"name": "p", "resources": {"limits": {"cpu": "1000m", "memory": "1Gi"}}})),
        in_pod(&json!({"name": "p", "resources": {"limits": {"cpu": "1", "memory": "1024Mi"}}})))]
    #[case::a_size_limit(json!({"sizeLimit": "1Gi"}), json!({"sizeLimit": "1024Mi"}))]
    #[case::an_empty_variable(
        in_pod(&json!({"name": "p", "env": [{"name": "A", "value": ""}]})), in_pod(&json!({"name": "p", "env": [{"name": "A"}]})))]
    #[case::containers_by_name(
        json!({"containers": [{"name": "p", "image": "a"}]}),
        json!({"containers": [{"name": "sidecar", "image": "x"}, {"name": "p", "image": "a"}]}))]
    #[case::env_by_name(
        in_pod(&json!({"name": "p", "env": [{"name": "A", "value": "1"}]})),
        in_pod(&json!({"name": "p", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]})))]
    #[case::the_protocol_of_a_container_port(
        in_pod(&json!({"name": "p", "ports": [{"containerPort": 8080, "name": "http"}]})),
        in_pod(&json!({"name": "p", "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}]})))]
    #[case::a_second_port_of_a_service(
        json!({"spec": {"ports": [{"port": 8080, "protocol": "TCP"}]}}),
        json!({"spec": {"ports": [{"port": 9090, "protocol": "TCP"}, {"port": 8080, "protocol": "TCP", "nodePort": 3}]}}))]
    #[case::a_second_owner(
        json!({"metadata": {"ownerReferences": [{"uid": "1", "kind": "StockPredictor"}]}}),
        json!({"metadata": {"ownerReferences": [{"uid": "2"}, {"uid": "1", "kind": "StockPredictor"}]}}))]
    #[case::empty_strings_of_a_toleration(
        json!({"tolerations": [{"key": "", "operator": "Exists", "effect": "", "value": ""}]}),
        json!({"tolerations": [{"operator": "Exists"}]}))]
    #[case::the_version_of_a_field_reference(
        in_pod(&json!({"name": "p", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
        in_pod(&json!({"name": "p", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}]})))]
    #[case::the_divisor_of_a_resource_reference(
        in_pod(&json!({"name": "p", "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]})),
        in_pod(&json!({"name": "p", "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "0"}}}]})))]
    #[case::the_protocol_of_an_admitted_port(
        json!({"spec": {"ingress": [{"ports": [{"port": 8080}]}]}}),
        json!({"spec": {"ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]}}))]
    #[case::a_selector_with_empty_parts(
        json!({"affinity": {"podAffinity": {"terms": [{"namespaces": [], "labelSelector": {"matchLabels": {}, "matchExpressions": []}}]}}}),
        json!({"affinity": {"podAffinity": {"terms": [{"labelSelector": {}}]}}}))]
    #[case::the_mode_of_a_volume(
        json!({"volumes": [{"name": "c", "configMap": {"name": "n"}}]}),
        json!({"volumes": [{"name": "c", "configMap": {"name": "n", "defaultMode": 420}}]}))]
    fn no_difference(#[case] desired: Value, #[case] live: Value) {
        assert_eq!(first_difference(&desired, &live), None);
    }

    #[rstest]
    #[case::a_changed_value(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 0}}), "spec.replicas")]
    #[case::a_removed_label(json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {}}), "metadata.labels")]
    #[case::a_false_that_is_gone(json!({"mount": false}), json!({}), "mount")]
    #[case::a_zero_that_is_gone(json!({"spec": {"replicas": 0}}), json!({"spec": {}}), "spec.replicas")]
    #[case::another_quantity(
        json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "1001m"}}), "limits.cpu")]
    #[case::another_text_that_only_looks_like_a_quantity(
        json!({"data": {"cpu": "1"}}), json!({"data": {"cpu": "1000m"}}), "data.cpu")]
    #[case::an_atomic_list_that_grew(
        json!({"command": ["a"]}), json!({"command": ["a", "b"]}), "command")]
    #[case::an_atomic_list_in_another_order(
        json!({"command": ["a", "b"]}), json!({"command": ["b", "a"]}), "command.0")]
    #[case::a_container_that_is_gone(
        json!({"containers": [{"name": "p"}]}), json!({"containers": [{"name": "q"}]}), "containers.p")]
    #[case::an_image_of_ours(
        json!({"containers": [{"name": "p", "image": "a"}]}), json!({"containers": [{"name": "p", "image": "b"}]}), "containers.p.image")]
    #[case::an_added_peer_in_a_network_policy(
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 8080}]}]}}),
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}}, {"ipBlock": {}}], "ports": [{"port": 8080}]}]}}),
        "spec.ingress.0.from")]
    #[case::another_target_port(
        json!({"spec": {"ports": [{"port": 8080, "protocol": "TCP", "targetPort": "http"}]}}),
        json!({"spec": {"ports": [{"port": 8080, "protocol": "TCP", "targetPort": 9999}]}}),
        "spec.ports.8080/TCP.targetPort")]
    #[case::a_label_added_to_the_selector_of_a_service(
        json!({"spec": {"selector": {"app": "a"}}}), json!({"spec": {"selector": {"app": "a", "b": "c"}}}), "spec.selector.b")]
    #[case::a_label_added_to_the_selector_of_a_network_policy(
        json!({"spec": {"podSelector": {"matchLabels": {"app": "a"}}}}),
        json!({"spec": {"podSelector": {"matchLabels": {"app": "a", "b": "c"}}}}), "spec.podSelector.matchLabels.b")]
    #[case::an_expression_added_to_a_selector(
        json!({"spec": {"selector": {"matchLabels": {"app": "a"}}}}),
        json!({"spec": {"selector": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}}}),
        "spec.selector.matchExpressions")]
    #[case::a_peer_opened_to_all_namespaces(
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}}),
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}, "namespaceSelector": {}}]}]}}),
        "spec.ingress.0.from.0.namespaceSelector")]
    #[case::a_peer_replaced_by_all_addresses(
        json!({"spec": {"ingress": [{"from": [{"podSelector": {}}]}]}}),
        json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}}),
        "spec.ingress.0.from.0.podSelector")]
    #[case::a_range_of_ports(
        json!({"spec": {"ingress": [{"ports": [{"port": 8080}]}]}}),
        json!({"spec": {"ingress": [{"ports": [{"port": 8080, "endPort": 9000}]}]}}),
        "spec.ingress.0.ports.0.endPort")]
    #[case::another_source_of_a_volume(
        json!({"volumes": [{"name": "tmp", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]}), "volumes.tmp.emptyDir")]
    #[case::another_key_of_a_node_selector(
        json!({"nodeSelector": {"disk": "fast"}}), json!({"nodeSelector": {"disk": "fast", "zone": "a"}}), "nodeSelector.zone")]
    #[case::a_toleration_for_a_time_only(
        json!({"tolerations": [{"key": "gpu"}]}),
        json!({"tolerations": [{"key": "gpu", "tolerationSeconds": 5}]}), "tolerations.0.tolerationSeconds")]
    #[case::a_source_in_place_of_an_empty_variable(
        in_pod(&json!({"name": "p", "env": [{"name": "A", "value": ""}]})),
        in_pod(&json!({"name": "p", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
        "spec.template.spec.containers.p.env.A.valueFrom")]
    #[case::an_empty_label_that_is_gone(
        json!({"metadata": {"labels": {"a": ""}}}), json!({"metadata": {"labels": {"b": "c"}}}), "metadata.labels.a")]
    #[case::another_type(json!({"a": {}}), json!({"a": "b"}), "a")]
    fn the_first_difference_is_named(
        #[case] desired: Value,
        #[case] live: Value,
        #[case] path: &str,
    ) {
        assert_eq!(first_difference(&desired, &live).as_deref(), Some(path));
    }
}
