//! The network: an LSTM over a window and two linear heads.
//!
//! In come scaled windows, out come quantiles in units of the trailing volatility:
//! median − softplus(a), median, median + softplus(b), ascending whatever the
//! weights. Random numbers come from the caller's generator only.

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::ops::sigmoid;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::feature::FEATURES;

/// Quantiles of a standard normal and of typical returns lie near ±1.2 volatilities; fits start there.
const START_WIDTH: f64 = 1.2;

/// The weights. Gates are in the order of ONNX: input, output, forget, cell.
#[derive(Clone, Debug)]
pub struct Network {
    /// `[features, 4·hidden]`.
    pub input_weights: Var,
    /// `[hidden, 4·hidden]`.
    pub recurrent_weights: Var,
    /// `[4·hidden]`.
    pub gate_bias: Var,
    /// `[hidden, 1]`.
    pub median_weights: Var,
    /// `[1]`.
    pub median_bias: Var,
    /// `[hidden, 2]`.
    pub width_weights: Var,
    /// `[2]`.
    pub width_bias: Var,
    /// Units of the LSTM.
    pub hidden: usize,
}

impl Network {
    /// Random weights of a usual size; the median starts near zero, the widths near [`START_WIDTH`].
    pub fn new(hidden: usize, random: &mut ChaCha8Rng) -> Result<Self> {
        let bound = 1.0 / (hidden as f32).sqrt();
        let mut uniform = |shape: (usize, usize), bound: f32| {
            let values: Vec<f32> = (0..shape.0 * shape.1)
                .map(|_| (unit(random) * 2.0 - 1.0) * bound)
                .collect();
            Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
        };
        let mut gate_bias = vec![0.0_f32; 4 * hidden];
        // An open forget gate lets the first steps of the fit see the whole window.
        gate_bias[2 * hidden..3 * hidden].fill(1.0);
        let start = ((START_WIDTH.exp() - 1.0).ln()) as f32;
        Ok(Self {
            input_weights: uniform((FEATURES, 4 * hidden), bound)?,
            recurrent_weights: uniform((hidden, 4 * hidden), bound)?,
            gate_bias: Var::from_vec(gate_bias, 4 * hidden, &Device::Cpu)?,
            median_weights: uniform((hidden, 1), bound * 0.1)?,
            median_bias: Var::from_vec(vec![0.0_f32], 1, &Device::Cpu)?,
            width_weights: uniform((hidden, 2), bound * 0.1)?,
            width_bias: Var::from_vec(vec![start; 2], 2, &Device::Cpu)?,
            hidden,
        })
    }

    /// All weights, in a fixed order.
    pub fn variables(&self) -> Vec<Var> {
        [
            &self.input_weights,
            &self.recurrent_weights,
            &self.gate_bias,
            &self.median_weights,
            &self.median_bias,
            &self.width_weights,
            &self.width_bias,
        ]
        .map(Clone::clone)
        .to_vec()
    }

    /// A copy of the weights that later steps don't change.
    pub fn snapshot(&self) -> Result<Vec<Tensor>> {
        self.variables()
            .iter()
            .map(|variable| variable.as_tensor().copy())
            .collect()
    }

    /// Puts a copy of the weights back.
    pub fn restore(&self, snapshot: &[Tensor]) -> Result<()> {
        for (variable, saved) in self.variables().iter().zip(snapshot) {
            variable.set(saved)?;
        }
        Ok(())
    }

    /// `windows` is `[sessions, batch, features]`; the result is `[batch, 3]`.
    pub fn forward(&self, windows: &Tensor) -> Result<Tensor> {
        let (steps, batch, features) = windows.dims3()?;
        let projected = windows
            .reshape((steps * batch, features))?
            .matmul(&self.input_weights)?
            .broadcast_add(&self.gate_bias)?
            .reshape((steps, batch, 4 * self.hidden))?;
        let mut output = Tensor::zeros((batch, self.hidden), DType::F32, &Device::Cpu)?;
        let mut cell = output.clone();
        for step in 0..steps {
            let gates = (projected.get(step)? + output.matmul(&self.recurrent_weights)?)?;
            let open = sigmoid(&gates.narrow(D::Minus1, 0, 3 * self.hidden)?)?;
            let candidate = gates
                .narrow(D::Minus1, 3 * self.hidden, self.hidden)?
                .tanh()?;
            let gate = |index: usize| open.narrow(D::Minus1, index * self.hidden, self.hidden);
            cell = ((gate(2)? * cell)? + (gate(0)? * candidate)?)?;
            output = (gate(1)? * cell.tanh()?)?;
        }
        let median = output
            .matmul(&self.median_weights)?
            .broadcast_add(&self.median_bias)?;
        let widths = softplus(
            &output
                .matmul(&self.width_weights)?
                .broadcast_add(&self.width_bias)?,
        )?;
        let low = (&median - widths.narrow(D::Minus1, 0, 1)?)?;
        let high = (&median + widths.narrow(D::Minus1, 1, 1)?)?;
        Tensor::cat(&[&low, &median, &high], D::Minus1)
    }
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// Pinball loss, averaged over quantiles and batch; `targets` is `[batch, 1]` in units of the volatility.
pub fn pinball(quantiles: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let above = targets.broadcast_sub(quantiles)?;
    let weights = |values: [f32; 3]| Tensor::new(&[values], &Device::Cpu);
    let under = above.relu()?.broadcast_mul(&weights([0.1, 0.5, 0.9])?)?;
    let over = above
        .neg()?
        .relu()?
        .broadcast_mul(&weights([0.9, 0.5, 0.1])?)?;
    (under + over)?.mean_all()
}

/// A number in `[0, 1)` out of the upper 24 bits, exactly representable.
pub fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn quantiles_ascend_whatever_the_weights() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let network = Network::new(4, &mut random).unwrap();
        let wild: Vec<f32> = (0..8).map(|_| (unit(&mut random) - 0.5) * 200.0).collect();
        network
            .width_weights
            .set(&Tensor::from_vec(wild, (4, 2), &Device::Cpu).unwrap())
            .unwrap();
        let numbers: Vec<f32> = (0..5 * 6 * FEATURES)
            .map(|_| unit(&mut random) * 10.0 - 5.0)
            .collect();
        let windows = Tensor::from_vec(numbers, (5, 6, FEATURES), &Device::Cpu).unwrap();
        for row in network.forward(&windows).unwrap().to_vec2::<f32>().unwrap() {
            assert!(
                row.iter().all(|value| value.is_finite()) && row[0] <= row[1] && row[1] <= row[2],
                "{row:?}"
            );
        }
    }

    #[test]
    fn pinball_loss_is_what_the_definition_gives() {
        let quantiles = Tensor::new(&[[-1.0_f32, 0.0, 1.0]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[2.0_f32]], &Device::Cpu).unwrap();
        let loss = pinball(&quantiles, &targets)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(
            (loss - (0.1 * 3.0 + 0.5 * 2.0 + 0.9 * 1.0) / 3.0).abs() < 1e-6,
            "{loss}"
        );
    }
}
