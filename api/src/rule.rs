//! The CEL rules that more than one field uses, and the patterns they rest on.
//!
//! In: field names for the message. Out: [`Rule`]s. Every message names the fix; the API server puts the field's path
//! in front of it. Patterns are RE2 and are anchored.

use kube::core::Rule;

use crate::well_known::{RESERVED_ENV, RESERVED_PREFIXES};

/// `30m`, `24h`, `7d`: a positive whole number and one unit.
pub const DURATION: &str = "^[1-9][0-9]{0,5}[smhd]$";
/// A ticker symbol, which also becomes a directory's name on the volume.
pub const SYMBOL: &str = "^[A-Z][A-Z0-9.-]{0,9}$";
/// A name that is safe as one path segment on the volume.
pub const SEGMENT: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";
/// A size with at most one binary or decimal suffix.
pub const SIZE: &str = "^[0-9]{1,15}([.][0-9]{1,6})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$";
/// A DNS-1035 label of at most 40 characters: it is the first part of the names of all children.
pub const NAME: &str = "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$";
/// A DNS-1123 label, such as the name of a namespace.
pub const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// A DNS-1123 subdomain, such as the name of a claim, a secret or a storage class.
pub const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$";
/// What a shell and every language accept as the name of a variable.
pub const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]{0,127}$";

/// A short name of a part of an object.
pub const SHORT_NAME: &str = "^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$";
/// A path below a folder that can't leave it: no part begins with a dot.
pub const RELATIVE_PATH: &str =
    "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}){0,7}$";
/// A bucket and a prefix in an object store. Neither credentials nor a query fit in.
pub const STORE_URL: &str =
    "^(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9._=-]+)*/?$";
/// The address of an object store.
pub const ENDPOINT: &str = "^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$";
/// A key of a Secret that can be a file's name.
pub const SECRET_KEY: &str = "^([A-Za-z0-9_-]|[.][A-Za-z0-9_-])[A-Za-z0-9._-]*$";

/// A schedule: five fields, or a word. Time zones have their own field.
pub const SCHEDULE: &str = "^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[0-9A-Za-z*?/,-]+( +[0-9A-Za-z*?/,-]+){4})$";
/// The name of a time zone.
pub const TIME_ZONE: &str = "^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$";
/// A public key of age.
pub const RECIPIENT: &str = "^age1[02-9ac-hj-np-z]{58}$";

/// A rule that `self` matches `pattern`.
pub fn matches(pattern: &str, message: &str) -> Rule {
    Rule::new(format!("self.matches('{pattern}')")).message(message)
}

/// A duration in our own form.
pub fn duration() -> Rule {
    matches(
        DURATION,
        "write a positive whole number and one unit (s, m, h or d), such as 30m, 24h or 7d",
    )
}

/// A schedule in the form of cron.
pub fn schedule() -> Rule {
    matches(
        SCHEDULE,
        "write five fields (minute hour day-of-month month day-of-week), such as 0 3 * * *, or one of @hourly, @daily, \
         @weekly, @monthly and @yearly; a time zone goes into timeZone",
    )
}

/// Exactly one kind of place.
pub fn one_place() -> Rule {
    Rule::new("(has(self.volume) ? 1 : 0) + (has(self.claim) ? 1 : 0) + (has(self.objectStore) ? 1 : 0) == 1")
        .message("set exactly one of volume (write volume: {}), claim and objectStore")
}

/// The name of a Secret.
pub fn secret_name() -> Rule {
    matches(
        SUBDOMAIN,
        "use the name of a Secret as `kubectl get secrets` prints it",
    )
}

/// A name that becomes a directory on the volume.
pub fn segment() -> Rule {
    matches(
        SEGMENT,
        "use at most 63 letters, digits, '.', '_' and '-', beginning with a letter or digit: it names a folder on the volume",
    )
}

/// A size that a volume can have. Plain numbers are bytes, so the lower bound also catches a forgotten suffix.
pub fn size() -> [Rule; 2] {
    let form = matches(SIZE, "write a size such as 10Gi or 500Mi");
    let least = Rule::new(format!(
        "!self.matches('{SIZE}') || quantity(self).compareTo(quantity('1Mi')) >= 0"
    ))
    .message(
        "must be at least 1Mi; a number without suffix means bytes, so write a size such as 10Gi",
    );
    [form, least]
}

/// The optional field `name` of this object keeps its value: neither changed, nor set, nor taken away later.
pub fn immutable_optional(name: &str, message: &str) -> Rule {
    Rule::new(format!(
        "has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
    ))
    .message(message)
}

/// The keys of a map of labels or annotations stay out of our own namespaces of keys.
pub fn no_reserved_keys() -> Rule {
    let checks: Vec<String> = RESERVED_PREFIXES
        .iter()
        .map(|prefix| format!("!key.startsWith('{prefix}')"))
        .collect();
    Rule::new(format!("self.all(key, {})", checks.join(" && "))).message(
        format!(
            "remove the keys that begin with {}: the operator sets those itself",
            RESERVED_PREFIXES.join(" or ")
        )
        .as_str(),
    )
}

/// The variables of `spec.env` have ordinary names and leave the operator's own alone.
pub fn variables() -> [Rule; 2] {
    let form = Rule::new(format!(
        "self.all(variable, variable.name.matches('{VARIABLE}'))"
    ))
    .message("name each variable with letters, digits and '_', not beginning with a digit");
    let names: Vec<String> = RESERVED_ENV
        .iter()
        .map(|name| format!("'{name}'"))
        .collect();
    let reserved = Rule::new(format!(
        "self.all(variable, !(variable.name in [{}]))",
        names.join(", ")
    ))
    .message(
        format!(
            "remove {}: the operator sets these variables itself",
            RESERVED_ENV.join(" and ")
        )
        .as_str(),
    );
    [form, reserved]
}
