//! The ONNX file format: the protobuf messages, and what is checked before a file
//! reaches ONNX Runtime.
//!
//! In come bytes from the volume, which may be broken or hostile; out comes the
//! window length, or a refusal. Decoding is bounded in depth, so no file can exhaust
//! the stack. Field numbers and names are those of ONNX (`onnx.proto`, IR version 8);
//! fields that are neither checked nor written are left out.

use prost::Message;

use super::error::ModelError;
use crate::feature::{FEATURES, MAX_WINDOW};

/// Name of the input with scaled features: float32 `[batch, window, features]`.
pub const WINDOW_INPUT: &str = "window";
/// Name of the input with the trailing volatility: float32 `[batch, 1]`, a daily log return, not scaled.
pub const VOLATILITY_INPUT: &str = "volatility";
/// Name of the output: float32 `[batch, 3]`, quantiles 0.1, 0.5, 0.9 of the next log return.
pub const QUANTILES_OUTPUT: &str = "quantiles";
/// Number of float32 among the data types.
pub const FLOAT: i32 = 1;
/// Number of int64 among the data types.
pub const INT64: i32 = 7;

/// A whole file.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "20")]
    pub training_info: Vec<TrainingInfo>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// A graph, the main one or one inside an operator.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensor>,
}

/// One operator.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A setting of an operator.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    #[prost(int32, tag = "20")]
    pub r#type: i32,
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensor>,
}

/// Constant numbers.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringPair>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// Constant numbers, most of them zero.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    pub indices: Option<Tensor>,
}

/// A named input or output.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// A type; only tensors are of interest.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// Element type and shape.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// The axes of a tensor.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One axis: a number, or a name where it is open.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// The version of the operators.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct StringPair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Graphs for training; read only to check them.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct TrainingInfo {
    #[prost(message, optional, tag = "1")]
    pub initialization: Option<Graph>,
    #[prost(message, optional, tag = "2")]
    pub algorithm: Option<Graph>,
}

/// An operator made of others; read only to check it.
#[derive(Clone, PartialEq, Message)]
#[allow(missing_docs, reason = "the names are those of onnx.proto")]
pub struct Function {
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<Attribute>,
}

/// Checks a file and returns its window length; `path` is what errors call it.
///
/// Refused are bytes that are no ONNX model, tensors kept in other files, and any
/// other inputs and outputs than the ones above.
pub fn inspect(bytes: &[u8], path: &str) -> Result<usize, ModelError> {
    let model = Model::decode(bytes).map_err(|_| ModelError::Parse {
        path: path.to_owned(),
        reason: "it is not an ONNX model, or was cut off".to_owned(),
    })?;
    if model.keeps_data_outside() {
        return Err(ModelError::ExternalData {
            path: path.to_owned(),
        });
    }
    let graph = model.graph.unwrap_or_default();
    graph.window_length().ok_or_else(|| ModelError::Shape {
        path: path.to_owned(),
        found: graph.shown(),
    })
}

impl Model {
    fn keeps_data_outside(&self) -> bool {
        let training = self
            .training_info
            .iter()
            .flat_map(|info| info.initialization.iter().chain(&info.algorithm));
        self.graph
            .iter()
            .chain(training)
            .any(Graph::keeps_data_outside)
            || self.functions.iter().any(|function| {
                function
                    .node
                    .iter()
                    .flat_map(|node| &node.attribute)
                    .chain(&function.attribute_proto)
                    .any(Attribute::keeps_data_outside)
            })
    }
}

impl Graph {
    fn keeps_data_outside(&self) -> bool {
        self.initializer.iter().any(Tensor::keeps_data_outside)
            || self
                .sparse_initializer
                .iter()
                .any(SparseTensor::keeps_data_outside)
            || self
                .node
                .iter()
                .flat_map(|node| &node.attribute)
                .any(Attribute::keeps_data_outside)
    }

    fn window_length(&self) -> Option<usize> {
        // Old exporters list constants among the inputs too.
        let is_constant = |name: &str| self.initializer.iter().any(|tensor| tensor.name == name);
        let inputs: Vec<&ValueInfo> = self
            .input
            .iter()
            .filter(|input| !is_constant(&input.name))
            .collect();
        let [first, second] = inputs.as_slice() else {
            return None;
        };
        let (window, volatility) = if first.name == WINDOW_INPUT {
            (first, second)
        } else {
            (second, first)
        };
        let [output] = self.output.as_slice() else {
            return None;
        };
        let [None, Some(length), Some(last)] = window.float_axes(WINDOW_INPUT)?[..] else {
            return None;
        };
        let [None, Some(1)] = volatility.float_axes(VOLATILITY_INPUT)?[..] else {
            return None;
        };
        // Exporters leave the output's batch open or, where they can't tell, the other axis too.
        let [None, Some(3) | None] = output.float_axes(QUANTILES_OUTPUT)?[..] else {
            return None;
        };
        let length = usize::try_from(length).ok()?;
        (usize::try_from(last) == Ok(FEATURES) && (1..=MAX_WINDOW).contains(&length))
            .then_some(length)
    }

    /// Inputs and outputs for an error, bounded.
    fn shown(&self) -> String {
        let list = |values: &[ValueInfo]| {
            let shown: Vec<String> = values.iter().take(4).map(ValueInfo::shown).collect();
            shown.join(", ")
        };
        format!(
            "inputs ({}) and outputs ({})",
            list(&self.input),
            list(&self.output)
        )
    }
}

impl Attribute {
    fn keeps_data_outside(&self) -> bool {
        self.t
            .iter()
            .chain(&self.tensors)
            .any(Tensor::keeps_data_outside)
            || self
                .g
                .iter()
                .chain(&self.graphs)
                .any(Graph::keeps_data_outside)
            || self
                .sparse_tensor
                .iter()
                .chain(&self.sparse_tensors)
                .any(SparseTensor::keeps_data_outside)
    }
}

impl Tensor {
    fn keeps_data_outside(&self) -> bool {
        self.data_location != 0 || !self.external_data.is_empty()
    }
}

impl SparseTensor {
    fn keeps_data_outside(&self) -> bool {
        self.values
            .iter()
            .chain(&self.indices)
            .any(Tensor::keeps_data_outside)
    }
}

impl ValueInfo {
    /// The axes if this is the float32 tensor of that name; open ones are `None`.
    fn float_axes(&self, name: &str) -> Option<Vec<Option<i64>>> {
        let tensor = self.r#type.as_ref()?.tensor_type.as_ref()?;
        let axes = tensor
            .shape
            .as_ref()?
            .dim
            .iter()
            .map(|axis| axis.dim_value)
            .collect();
        (self.name == name && tensor.elem_type == FLOAT).then_some(axes)
    }

    fn shown(&self) -> String {
        let name: String = self.name.chars().take(32).collect();
        let tensor = self
            .r#type
            .as_ref()
            .and_then(|kind| kind.tensor_type.as_ref());
        let axes = tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| {
                let axes = shape.dim.iter().take(6);
                axes.map(|axis| {
                    axis.dim_value
                        .map_or("?".to_owned(), |value| value.to_string())
                })
                .collect::<Vec<_>>()
            });
        format!("{name} [{}]", axes.unwrap_or_default().join(", "))
    }
}
