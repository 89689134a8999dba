//! One fit: a training span in, a fitted and calibrated model out.
//!
//! Everything that is chosen here (scaler, weights, number of passes, width of the
//! interval) is chosen by the given span alone; no other sample is in reach.

use candle_core::{Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::data::{Dataset, Sample, cut_tail};
use super::network::{Network, pinball};
use super::recipe::Recipe;
use crate::feature::FEATURES;
use crate::model::{Quantiles, Scaler};

/// The interval that calibration aims at.
const LEVEL: f64 = 0.8;
/// Samples in one forward pass outside of fitting.
const EVALUATION_BATCH: usize = 1024;

/// Why a fit failed.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// The span is too short to be cut.
    #[error(
        "the training span has {found} samples, too few to fit and calibrate: put older prices there too"
    )]
    TooFew {
        /// Samples in the span.
        found: usize,
    },
    /// The loss is no number any more.
    #[error("the loss is not finite any more: use a smaller --learning-rate or another --seed")]
    Diverged,
    /// The tensor library refused something.
    #[error("the tensor library failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// A fitted model.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The weights.
    pub network: Network,
    /// Fitted on the rows of the span's earlier part.
    pub scaler: Scaler,
    /// What the interval's half widths are multiplied by, from the span's tail.
    pub width_factor: f64,
    /// Passes after which the loss on the tail was smallest.
    pub epochs: usize,
    /// That loss.
    pub tail_loss: f64,
}

/// Fits on `training`; `stream` separates the random numbers of several fits, `after_pass` is told their number after each.
pub fn fit(
    dataset: &Dataset,
    training: &[Sample],
    recipe: &Recipe,
    stream: u64,
    after_pass: &dyn Fn(usize),
) -> Result<Fitted, FitError> {
    let cut = cut_tail(training, recipe.tail_share);
    if cut.fit.is_empty() || cut.tail.is_empty() {
        return Err(FitError::TooFew {
            found: training.len(),
        });
    }
    let scaler = Scaler::fit(
        cut.fit
            .iter()
            .map(|sample| &dataset.series[sample.series].rows[sample.row]),
    );
    let inputs = Scaled::new(dataset, &scaler);
    let mut random = ChaCha8Rng::seed_from_u64(recipe.seed);
    random.set_stream(stream);
    let network = Network::new(recipe.hidden, &mut random)?;
    let settings = ParamsAdamW {
        lr: recipe.learning_rate,
        weight_decay: recipe.weight_decay,
        ..ParamsAdamW::default()
    };
    let mut optimiser = AdamW::new(network.variables(), settings)?;
    let mut best = (0, inputs.loss(&network, &cut.tail)?, network.snapshot()?);
    let mut order = cut.fit;
    for epoch in 1..=recipe.max_epochs {
        shuffle(&mut order, &mut random);
        for batch in order.chunks(recipe.batch) {
            let (windows, targets) = inputs.batch(batch)?;
            let loss = pinball(&network.forward(&windows)?, &targets)?;
            optimiser.backward_step(&loss)?;
        }
        let loss = inputs.loss(&network, &cut.tail)?;
        after_pass(epoch);
        if !loss.is_finite() {
            return Err(FitError::Diverged);
        }
        if loss < best.1 {
            best = (epoch, loss, network.snapshot()?);
        } else if epoch - best.0 >= recipe.patience {
            break;
        }
    }
    let (epochs, tail_loss, weights) = best;
    network.restore(&weights)?;
    let width_factor = calibrate(&inputs.raw_quantiles(&network, &cut.tail)?, &cut.tail);
    Ok(Fitted {
        network,
        scaler,
        width_factor,
        epochs,
        tail_loss,
    })
}

impl Fitted {
    /// Quantiles of the next log return for each sample, calibrated.
    pub fn forecast(
        &self,
        dataset: &Dataset,
        samples: &[Sample],
    ) -> Result<Vec<Quantiles>, FitError> {
        let scaled = Scaled::new(dataset, &self.scaler);
        let raw = scaled.raw_quantiles(&self.network, samples)?;
        let forecasts = raw
            .iter()
            .zip(samples)
            .map(|(&[low, median, high], sample)| {
                let width = |side: f64| side * self.width_factor;
                Quantiles {
                    low: (median - width(median - low)) * sample.volatility,
                    median: median * sample.volatility,
                    high: (median + width(high - median)) * sample.volatility,
                }
            });
        Ok(forecasts.collect())
    }
}

/// The factor by which the interval has to grow or shrink to hold [`LEVEL`] of the samples.
///
/// Conformal: for each sample the factor at which it would just lie inside; of these
/// the quantile that leaves LEVEL below, with the finite-sample correction.
fn calibrate(raw: &[[f64; 3]], samples: &[Sample]) -> f64 {
    let mut needed: Vec<f64> = raw
        .iter()
        .zip(samples)
        .map(|(&[low, median, high], sample)| {
            let distance = sample.target / sample.volatility - median;
            let half_width = if distance < 0.0 {
                median - low
            } else {
                high - median
            };
            distance.abs() / half_width.max(1e-6)
        })
        .collect();
    needed.sort_by(f64::total_cmp);
    let rank = ((needed.len() + 1) as f64 * LEVEL).ceil() as usize;
    needed
        .get(rank.saturating_sub(1))
        .or(needed.last())
        .copied()
        .unwrap_or(1.0)
}

/// Fisher–Yates with the given generator.
fn shuffle(samples: &mut [Sample], random: &mut ChaCha8Rng) {
    for index in (1..samples.len()).rev() {
        let other = (random.next_u64() % (index as u64 + 1)) as usize;
        samples.swap(index, other);
    }
}

/// All rows scaled once; windows overlap, so scaling them one by one would repeat it.
struct Scaled {
    rows: Vec<Vec<[f32; FEATURES]>>,
    window: usize,
}

impl Scaled {
    fn new(dataset: &Dataset, scaler: &Scaler) -> Self {
        let scale = |rows: &Vec<_>| rows.iter().map(|row| scaler.row(row)).collect();
        Self {
            rows: dataset.series.iter().map(|one| scale(&one.rows)).collect(),
            window: dataset.window,
        }
    }

    /// Windows `[sessions, batch, features]` and targets `[batch, 1]` in units of the volatility.
    fn batch(&self, samples: &[Sample]) -> candle_core::Result<(Tensor, Tensor)> {
        let mut windows = Vec::with_capacity(samples.len() * self.window * FEATURES);
        for step in 0..self.window {
            for sample in samples {
                windows.extend_from_slice(
                    &self.rows[sample.series][sample.row + 1 + step - self.window],
                );
            }
        }
        let targets: Vec<f32> = samples
            .iter()
            .map(|sample| (sample.target / sample.volatility) as f32)
            .collect();
        Ok((
            Tensor::from_vec(
                windows,
                (self.window, samples.len(), FEATURES),
                &Device::Cpu,
            )?,
            Tensor::from_vec(targets, (samples.len(), 1), &Device::Cpu)?,
        ))
    }

    fn loss(&self, network: &Network, samples: &[Sample]) -> candle_core::Result<f64> {
        let mut sum = 0.0;
        for batch in samples.chunks(EVALUATION_BATCH) {
            let (windows, targets) = self.batch(batch)?;
            let loss = pinball(&network.forward(&windows)?, &targets)?.to_scalar::<f32>()?;
            sum += f64::from(loss) * batch.len() as f64;
        }
        Ok(sum / samples.len() as f64)
    }

    /// Quantiles in units of the volatility, before calibration.
    fn raw_quantiles(
        &self,
        network: &Network,
        samples: &[Sample],
    ) -> candle_core::Result<Vec<[f64; 3]>> {
        let mut quantiles = Vec::with_capacity(samples.len());
        for batch in samples.chunks(EVALUATION_BATCH) {
            let rows = network.forward(&self.batch(batch)?.0)?.to_vec2::<f32>()?;
            quantiles.extend(
                rows.iter()
                    .map(|row| [row[0].into(), row[1].into(), row[2].into()]),
            );
        }
        Ok(quantiles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn samples(count: usize) -> Vec<Sample> {
        let one = |index: usize| Sample {
            series: 0,
            row: 0,
            as_of: date(2020, 1, 1),
            target_date: date(2020, 1, 2),
            target: 0.02 * (index + 1) as f64,
            volatility: 0.02,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn the_calibrated_interval_holds_four_fifths_of_the_samples() {
        // The outcomes lie at 1 to 99 half widths; the 80th of 99 is the conformal quantile.
        let raw = vec![[-1.0, 0.0, 1.0]; 99];
        assert!((calibrate(&raw, &samples(99)) - 80.0).abs() < 1e-9);
    }

    #[test]
    fn calibration_takes_the_half_width_of_the_outcomes_own_side() {
        let raw = vec![[-100.0, 0.0, 0.5]; 9];
        assert!((calibrate(&raw, &samples(9)) - 16.0).abs() < 1e-9);
    }

    #[test]
    fn shuffling_keeps_all_samples_and_depends_on_the_seed_alone() {
        let shuffled = |seed| {
            let mut mixed = samples(50);
            shuffle(&mut mixed, &mut ChaCha8Rng::seed_from_u64(seed));
            mixed
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_by(|left, right| left.target.total_cmp(&right.target));
        assert_eq!(sorted, samples(50));
    }
}
