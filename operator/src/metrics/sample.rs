//! Samples of metrics that are computed anew at each scrape.
//!
//! In: values with their labels, in any order. Out: text with one block a metric, in the order of names. Label values are
//! borrowed from the objects, so a scrape copies none of them.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::MetricType;

/// No metric has more labels.
const MAX_LABELS: usize = 3;

/// What `contracts/metrics.json` says of a gauge.
#[derive(Debug)]
pub struct Description {
    /// Its whole name.
    pub name: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, without a full stop.
    pub help: &'static str,
}

/// One value.
#[derive(Clone, Copy, Debug)]
struct Sample<'a> {
    labels: [&'a str; MAX_LABELS],
    value: i64,
}

/// A metric and its values.
type Gauge<'a> = (&'static Description, Vec<Sample<'a>>);

/// What a scrape has found so far, by name.
#[derive(Debug, Default)]
pub struct Samples<'a>(BTreeMap<&'static str, Gauge<'a>>);

impl<'a> Samples<'a> {
    /// Adds a value. The label values stand in the order of the names.
    pub fn push<const N: usize>(
        &mut self,
        metric: &'static Description,
        values: [&'a str; N],
        value: i64,
    ) {
        const { assert!(N <= MAX_LABELS) };
        debug_assert_eq!(N, metric.labels.len(), "labels of {}", metric.name);
        let mut labels = [""; MAX_LABELS];
        labels[..N].copy_from_slice(&values);
        let gauge = self.0.entry(metric.name).or_insert((metric, Vec::new()));
        gauge.1.push(Sample { labels, value });
    }

    /// Adds a value, if there is one.
    pub fn push_some<const N: usize>(
        &mut self,
        metric: &'static Description,
        values: [&'a str; N],
        value: Option<i64>,
    ) {
        if let Some(value) = value {
            self.push(metric, values, value);
        }
    }

    /// Writes all of them.
    ///
    /// # Errors
    /// When the text can't be written.
    pub fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, (metric, samples)) in &self.0 {
            // Registered metrics get their full stop from the library.
            let help = format!("{}.", metric.help);
            let mut gauge = encoder.encode_descriptor(name, &help, None, MetricType::Gauge)?;
            for sample in samples {
                let labels = Labels(metric.labels, &sample.labels);
                gauge.encode_family(&labels)?.encode_gauge(&sample.value)?;
            }
        }
        Ok(())
    }

    /// The lines, without help and type.
    #[cfg(test)]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.iter().flat_map(|(name, (metric, samples))| {
            samples.iter().map(move |sample| {
                let labels: Vec<_> = std::iter::zip(metric.labels, sample.labels)
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("{name}{{{}}} {}", labels.join(","), sample.value)
            })
        });
        lines.collect()
    }
}

/// Names of labels, and at least as many values.
#[derive(Debug)]
struct Labels<'a>(&'a [&'static str], &'a [&'a str; MAX_LABELS]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let labels: [(&str, &str); MAX_LABELS] =
            std::array::from_fn(|place| (self.0.get(place).copied().unwrap_or(""), self.1[place]));
        (&labels[..self.0.len()]).encode(encoder)
    }
}
