//! The recipe: every number that training and evaluation depend on.
//!
//! Two runs with equal data, recipe, seed, program and machine give equal bytes.

use crate::feature;

/// Numbers of training and evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Sessions in a window.
    pub window: usize,
    /// Units of the LSTM.
    pub hidden: usize,
    /// Most passes over the training sessions.
    pub max_epochs: usize,
    /// Passes without a smaller loss on the tail after which a fit ends.
    pub patience: usize,
    /// Windows in one step of the optimiser.
    pub batch: usize,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Pull of the weights towards zero.
    pub weight_decay: f64,
    /// Share of a span's sessions, the last ones, that stop the fit and calibrate its interval.
    pub tail_share: f64,
    /// Fewest sessions of a training span.
    pub min_training_sessions: usize,
    /// Calendar years that the evaluation walks through, the last ones of the data.
    pub evaluation_years: usize,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            window: feature::WINDOW,
            hidden: 16,
            max_epochs: 40,
            patience: 6,
            batch: 256,
            learning_rate: 2e-3,
            weight_decay: 1e-2,
            tail_share: 0.2,
            min_training_sessions: 500,
            evaluation_years: 5,
            seed: 42,
        }
    }
}
