//! Errors of the API: `application/problem+json` with a stable `type`.
//!
//! In comes what went wrong, out comes a response. Types are a contract: they are
//! listed in docs/api.md and never change their meaning.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "urn:stockpredictor:problem:";

/// What kind of problem it is; one stable `type` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The text in the path is no symbol.
    InvalidSymbol,
    /// A symbol that this service is not set up for.
    UnknownSymbol,
    /// A query parameter has the wrong form.
    InvalidQuery,
    /// There is no price history for the symbol.
    NoHistory,
    /// The price history is broken.
    BrokenHistory,
    /// The price history is too short for a forecast.
    ShortHistory,
    /// The model is being loaded.
    ModelLoading,
    /// There is no model.
    ModelMissing,
    /// The model was refused.
    ModelRefused,
    /// The model gave no usable forecast.
    ForecastFailed,
    /// Not for this caller.
    Forbidden,
    /// No such path.
    NotFound,
    /// The path doesn't take this method.
    MethodNotAllowed,
    /// The request's body is too large.
    TooLarge,
    /// Too many requests at once.
    Overloaded,
    /// The answer took too long.
    Timeout,
    /// A mistake of the program.
    Internal,
}

impl Kind {
    const fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::InvalidSymbol => (
                "invalid-symbol",
                "Not a stock symbol",
                StatusCode::BAD_REQUEST,
            ),
            Self::UnknownSymbol => (
                "unknown-symbol",
                "Symbol is not served here",
                StatusCode::NOT_FOUND,
            ),
            Self::InvalidQuery => (
                "invalid-query",
                "Query parameter is not valid",
                StatusCode::BAD_REQUEST,
            ),
            Self::NoHistory => (
                "no-history",
                "No price history",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::BrokenHistory => (
                "broken-history",
                "Price history is broken",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::ShortHistory => (
                "short-history",
                "Price history is too short",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::ModelLoading => (
                "model-loading",
                "Model is being loaded",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::ModelMissing => ("model-missing", "No model", StatusCode::SERVICE_UNAVAILABLE),
            Self::ModelRefused => (
                "model-refused",
                "Model was refused",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::ForecastFailed => (
                "forecast-failed",
                "Model gave no usable forecast",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            Self::Forbidden => ("forbidden", "Not for this caller", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "No such path", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                "Method is not allowed",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Self::TooLarge => (
                "too-large",
                "Request is too large",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            Self::Overloaded => (
                "overloaded",
                "Too many requests at once",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Self::Timeout => (
                "timeout",
                "Answer took too long",
                StatusCode::GATEWAY_TIMEOUT,
            ),
            Self::Internal => (
                "internal",
                "Internal error",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
        }
    }
}

/// A problem with its explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// One sentence with the way out.
    pub detail: String,
}

/// The document that a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProblemDocument {
    /// Stable name of the kind of problem.
    #[schema(example = "urn:stockpredictor:problem:unknown-symbol")]
    pub r#type: String,
    /// The kind in words.
    pub title: String,
    /// The response's status.
    pub status: u16,
    /// What happened and what to do.
    pub detail: String,
}

impl Problem {
    /// A problem of that kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        self.kind.parts().2
    }

    /// The document.
    pub fn document(&self) -> ProblemDocument {
        let (slug, title, status) = self.kind.parts();
        ProblemDocument {
            r#type: format!("{PREFIX}{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_a_stable_type_and_its_media_type() {
        let problem = Problem::new(Kind::UnknownSymbol, "MSFT is not served");
        assert_eq!(
            problem.document().r#type,
            "urn:stockpredictor:problem:unknown-symbol"
        );
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
