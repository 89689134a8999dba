//! The network as an ONNX graph.
//!
//! In come weights and the calibrated width; out come the bytes of `model.onnx`. The
//! graph has no dates, paths or machine names in it, so equal weights give equal bytes.

#![allow(
    clippy::cast_possible_wrap,
    reason = "sizes of a network are far below 2^63"
)]

use candle_core::{Result, Tensor};
use prost::Message;

use super::network::Network;
use crate::feature::FEATURES;
use crate::model::onnx::{
    Attribute, Dimension, FLOAT, Graph, INT64, Model, Node, OperatorSet, QUANTILES_OUTPUT, Shape,
    Tensor as Constant, TensorType, Type, VOLATILITY_INPUT, ValueInfo, WINDOW_INPUT,
};

/// Operators of ONNX 1.12; every runtime of the last years knows them.
const OPSET: i64 = 17;
/// The file format that belongs to [`OPSET`].
const IR_VERSION: i64 = 8;
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;

/// Writes the graph.
///
/// Inputs are the scaled window `[batch, window, features]` and the trailing volatility
/// `[batch, 1]`; output are the quantiles of the next log return `[batch, 3]`.
pub fn to_onnx(network: &Network, width_factor: f64, window: usize) -> Result<Vec<u8>> {
    let graph = Graph {
        name: "lstm_quantiles".to_owned(),
        node: operators(network.hidden),
        initializer: constants(network, width_factor)?,
        input: vec![
            value(WINDOW_INPUT, &[window, FEATURES]),
            value(VOLATILITY_INPUT, &[1]),
        ],
        output: vec![value(QUANTILES_OUTPUT, &[3])],
        ..Graph::default()
    };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "stockpredictor".to_owned(),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: OPSET,
        }],
        graph: Some(graph),
        ..Model::default()
    };
    Ok(model.encode_to_vec())
}

/// Weights, the calibrated spread, and the axis to drop.
fn constants(network: &Network, width_factor: f64) -> Result<Vec<Constant>> {
    let hidden = network.hidden;
    let float = |name: &str, dims: &[usize], values: Vec<f32>| Constant {
        name: name.to_owned(),
        data_type: FLOAT,
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        raw_data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        ..Constant::default()
    };
    // The LSTM has two biases a gate; one of them stays zero.
    let mut gate_bias = numbers(&network.gate_bias)?;
    gate_bias.resize(8 * hidden, 0.0);
    let factor = width_factor as f32;
    Ok(vec![
        float(
            "lstm_w",
            &[1, 4 * hidden, FEATURES],
            numbers(&network.input_weights.t()?)?,
        ),
        float(
            "lstm_r",
            &[1, 4 * hidden, hidden],
            numbers(&network.recurrent_weights.t()?)?,
        ),
        float("lstm_b", &[1, 8 * hidden], gate_bias),
        float("median_w", &[hidden, 1], numbers(&network.median_weights)?),
        float("median_b", &[1], numbers(&network.median_bias)?),
        float("width_w", &[hidden, 2], numbers(&network.width_weights)?),
        float("width_b", &[2], numbers(&network.width_bias)?),
        float("spread", &[2, 3], vec![-factor, 0.0, 0.0, 0.0, 0.0, factor]),
        Constant {
            name: "first_axis".to_owned(),
            data_type: INT64,
            dims: vec![1],
            raw_data: 0_i64.to_le_bytes().to_vec(),
            ..Constant::default()
        },
    ])
}

/// From both inputs to the output.
fn operators(hidden: usize) -> Vec<Node> {
    vec![
        node(
            "Transpose",
            &[WINDOW_INPUT],
            &["by_session"],
            vec![ints("perm", &[1, 0, 2])],
        ),
        node(
            "LSTM",
            &["by_session", "lstm_w", "lstm_r", "lstm_b"],
            &["", "last_output"],
            vec![int("hidden_size", hidden as i64)],
        ),
        node(
            "Squeeze",
            &["last_output", "first_axis"],
            &["state"],
            vec![],
        ),
        node(
            "Gemm",
            &["state", "median_w", "median_b"],
            &["median"],
            vec![],
        ),
        node(
            "Gemm",
            &["state", "width_w", "width_b"],
            &["raw_widths"],
            vec![],
        ),
        node("Softplus", &["raw_widths"], &["widths"], vec![]),
        node("MatMul", &["widths", "spread"], &["offsets"], vec![]),
        node("Add", &["median", "offsets"], &["in_volatilities"], vec![]),
        node(
            "Mul",
            &["in_volatilities", VOLATILITY_INPUT],
            &[QUANTILES_OUTPUT],
            vec![],
        ),
    ]
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn node(op_type: &str, input: &[&str], output: &[&str], attribute: Vec<Attribute>) -> Node {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Node {
        name: output
            .iter()
            .copied()
            .find(|name| !name.is_empty())
            .unwrap_or_default()
            .to_owned(),
        op_type: op_type.to_owned(),
        input: owned(input),
        output: owned(output),
        attribute,
        ..Node::default()
    }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        name: name.to_owned(),
        r#type: ATTRIBUTE_INT,
        i: value,
        ..Attribute::default()
    }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute {
        name: name.to_owned(),
        r#type: ATTRIBUTE_INTS,
        ints: values.to_vec(),
        ..Attribute::default()
    }
}

/// A float32 tensor whose first axis is the open batch.
fn value(name: &str, axes: &[usize]) -> ValueInfo {
    let batch = Dimension {
        dim_param: Some("batch".to_owned()),
        ..Dimension::default()
    };
    let fixed = axes.iter().map(|&axis| Dimension {
        dim_value: Some(axis as i64),
        ..Dimension::default()
    });
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: FLOAT,
                shape: Some(Shape {
                    dim: std::iter::once(batch).chain(fixed).collect(),
                }),
            }),
        }),
    }
}
