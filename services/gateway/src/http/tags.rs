//! ETags: what a look answered, named by its digest, so that asking again costs no answer.

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use keywheel_seal::digest;

/// Largest answer that gets a tag, in bytes: beyond it the digest costs more than it saves.
pub const MAX_TAGGED_BYTES: u64 = 4 * 1024 * 1024;

/// Adds the tag to an answer of one JSON document; answers 304 when the caller has it.
pub(super) async fn tag(asked: Option<HeaderValue>, response: Response) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE)
        == Some(&HeaderValue::from_static("application/json"));
    let is_small = response.body().size_hint().exact();
    if response.status() != StatusCode::OK
        || !is_json
        || is_small.is_none_or(|bytes| bytes > MAX_TAGGED_BYTES)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let hash = digest::sha256(&bytes);
    let half: String = hash.iter().take(16).map(|b| format!("{b:02x}")).collect();
    let Ok(tag) = HeaderValue::from_str(&format!("\"{half}\"")) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    parts.headers.insert(header::ETAG, tag.clone());
    if asked.is_some_and(|asked| names(&asked, &tag)) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, tag);
        if let Some(link) = parts.headers.remove(header::LINK) {
            headers.insert(header::LINK, link);
        }
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether `If-None-Match` names this tag: a list, weak ones too, or `*`.
fn names(asked: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(asked), Ok(tag)) = (asked.to_str(), tag.to_str()) else {
        return false;
    };
    asked.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || one == tag
    })
}

#[cfg(test)]
mod tests {
    use axum::Json;

    use super::*;

    async fn answered(asked: Option<&str>) -> Response {
        let asked = asked.map(|text| HeaderValue::from_str(text).unwrap());
        tag(asked, Json([1, 2, 3]).into_response()).await
    }

    #[tokio::test]
    async fn the_same_answer_has_the_same_tag_and_is_sent_once() {
        let first = answered(None).await;
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        for asked in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let again = answered(Some(&asked)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{asked}");
            assert_eq!(again.headers()[header::ETAG], tag.as_str());
        }
        let other = answered(Some("\"other\"")).await;
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn failures_streams_and_what_is_large_have_none() {
        let failure = (StatusCode::NOT_FOUND, Json(1)).into_response();
        assert!(
            !tag(None, failure)
                .await
                .headers()
                .contains_key(header::ETAG)
        );
        let lines = ([(header::CONTENT_TYPE, "application/x-ndjson")], "1").into_response();
        assert!(!tag(None, lines).await.headers().contains_key(header::ETAG));
        for (bytes, has_tag) in [(MAX_TAGGED_BYTES, true), (MAX_TAGGED_BYTES + 1, false)] {
            let body = vec![b' '; usize::try_from(bytes).unwrap()];
            let kind = [(header::CONTENT_TYPE, "application/json")];
            let answered = tag(None, (kind, body).into_response()).await;
            assert_eq!(answered.headers().contains_key(header::ETAG), has_tag);
        }
    }
}
