//! `operator probe URL`: an HTTP GET for images that have no shell and no curl.
//!
//! In: a URL. Out: the status and the body, which is bounded.

use std::time::Duration;

use crate::http_client;

/// The whole request, connecting included.
const LIMIT: Duration = Duration::from_secs(10);
/// Larger answers are refused.
const MAX_BODY: usize = 1024 * 1024;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// True for 2xx.
    pub success: bool,
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("can't reach {url}: {source}; is the Service there, and may this pod reach it?")]
    Reach {
        /// What was asked.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// Too much answer.
    #[error("{url} answered more than {MAX_BODY} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
    },
}

/// Asks `url` once.
///
/// # Errors
/// When there is no complete answer in 10 s, or one of more than a mebibyte.
pub async fn probe(url: &str) -> Result<Answer, Error> {
    let fail = |source| Error::Reach {
        url: url.to_owned(),
        source,
    };
    let client = http_client::builder()
        .timeout(LIMIT)
        .build()
        .map_err(fail)?;
    let mut response = client.get(url).send().await.map_err(fail)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(fail)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Error::TooLarge {
                url: url.to_owned(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        success: status.is_success(),
        status: status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    #[tokio::test]
    async fn a_failure_is_told_with_its_body() {
        let server = MockServer::start().await;
        Mock::given(any())
            .respond_with(ResponseTemplate::new(503).set_body_string("not yet"))
            .mount(&server)
            .await;
        let answer = probe(&server.uri()).await.unwrap();
        assert!(!answer.success);
        assert_eq!((answer.status, answer.body.as_str()), (503, "not yet"));
    }

    #[tokio::test]
    async fn an_endless_answer_is_refused() {
        let server = MockServer::start().await;
        let body = vec![b'a'; MAX_BODY + 1];
        Mock::given(any())
            .respond_with(ResponseTemplate::new(200).set_body_bytes(body))
            .mount(&server)
            .await;
        assert!(matches!(
            probe(&server.uri()).await,
            Err(Error::TooLarge { .. })
        ));
    }
}
