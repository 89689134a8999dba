//! `OpenMetrics` text, read strictly: what is not understood fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Debug, Default)]
pub struct Family {
    pub help: String,
    pub kind: String,
    pub unit: Option<String>,
    /// Names of samples with their labels, as they stand in the text, and their values.
    pub samples: Vec<(String, String, f64)>,
}

/// A whole answer, by the names of its families.
#[derive(Debug)]
pub struct Exposition {
    pub text: String,
    pub families: BTreeMap<String, Family>,
}

impl Exposition {
    pub fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n");
        let body = body.unwrap_or_else(|| panic!("the end is not marked: {text}"));
        assert!(!body.contains("# EOF"), "and only there");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let mut words = rest.splitn(3, ' ');
                let (word, name) = (words.next().unwrap(), words.next().unwrap());
                let text = words.next().unwrap().to_owned();
                if word == "HELP" {
                    name.clone_into(&mut current);
                    let known = families.insert(name.to_owned(), Family::default());
                    assert!(known.is_none(), "{name} comes twice");
                }
                assert_eq!(name, current, "{line}");
                let family = families.get_mut(name).unwrap();
                match word {
                    "HELP" => family.help = text,
                    "TYPE" => family.kind = text,
                    "UNIT" => family.unit = Some(text),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let family = families.get_mut(&current).unwrap();
            let suffix = name
                .strip_prefix(&current)
                .unwrap_or_else(|| panic!("{line}"));
            let suffixes: &[&str] = match family.kind.as_str() {
                "gauge" => &[""],
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                kind => panic!("{current} is a {kind}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            let labels = labels.strip_suffix('}').unwrap().to_owned();
            let value = value.parse().unwrap();
            family.samples.push((name.to_owned(), labels, value));
        }
        for (name, family) in &families {
            if let Some(unit) = &family.unit {
                assert!(name.ends_with(&format!("_{unit}")), "{name} in {unit}");
            }
        }
        Self {
            text: text.to_owned(),
            families,
        }
    }

    /// The value of one series; `None` where there is none.
    pub fn value(&self, name: &str, labels: &str) -> Option<f64> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        let mut found = samples.filter(|(own, has, _)| own == name && has == labels);
        let value = found.next().map(|(_, _, value)| *value);
        assert!(found.next().is_none(), "{name}{{{labels}}} comes twice");
        value
    }

    /// Every series: name and labels.
    pub fn series(&self) -> BTreeSet<String> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples
            .map(|(name, labels, _)| format!("{name}{{{labels}}}"))
            .collect()
    }
}

impl Family {
    /// The names of the labels, which are the same for each sample; `le` of buckets aside.
    pub fn label_names(&self) -> BTreeSet<String> {
        let mut names: Option<BTreeSet<String>> = None;
        for (name, labels, _) in &self.samples {
            let mut own = BTreeSet::new();
            let mut rest = labels.as_str();
            while let Some((label, after)) = rest.split_once("=\"") {
                own.insert(label.trim_start_matches(',').to_owned());
                // No value of these tests has a quote in it.
                rest = after.split_once('"').unwrap().1;
            }
            assert!(rest.is_empty(), "{labels}");
            assert_eq!(own.remove("le"), name.ends_with("_bucket"), "{name}");
            assert!(names.is_none_or(|names| names == own), "{name}{{{labels}}}");
            names = Some(own);
        }
        names.unwrap_or_default()
    }
}
