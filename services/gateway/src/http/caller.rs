//! Who asks, and which ids the request draws: fresh ones, or always the same under an `Idempotency-Key`.
//!
//! Invariant: the same key and body from the same caller at the same path draw the same ids, the
//! command's among them, so the log decides the request once; everything else draws others.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use keywheel_core::audit::Principal;
use keywheel_schemas::api::MAX_IDEMPOTENCY_KEY_BYTES;
use keywheel_seal::digest;

use super::standing::Standing;
use super::{Api, Failure};

/// The header.
pub(super) const KEY: &str = "idempotency-key";
/// What the digest is of.
const CONTEXT: &[u8] = b"keywheel/http/idempotency/v1";

/// The principal of a request, put there by the guard, and what it draws ids from.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) principal: Principal,
    /// How they came in; what nobody set came in by no rule.
    pub(super) standing: Arc<Standing>,
    seed: Option<[u8; 32]>,
}

impl Caller {
    /// Reads the key, if there is one.
    pub(super) fn of(
        principal: Principal,
        (method, uri, headers): (&Method, &Uri, &HeaderMap),
        body: &Bytes,
    ) -> Result<Self, Failure> {
        let Some(key) = headers.get(KEY) else {
            return Ok(Self {
                principal,
                standing: Arc::new(Standing::new("", String::new())),
                seed: None,
            });
        };
        let key = key.as_bytes();
        let is_visible = key.iter().all(|byte| (b'!'..=b'~').contains(byte));
        if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES || !is_visible {
            return Err(Failure::invalid(format!(
                "the header `Idempotency-Key` is not 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible characters; a uuid is a good one"
            )));
        }
        let who = format!("{principal:?}");
        let parts: [&[u8]; 6] = [
            CONTEXT,
            who.as_bytes(),
            method.as_str().as_bytes(),
            uri.path().as_bytes(),
            key,
            body.as_ref(),
        ];
        // Each part by its own digest: no part can end where another begins.
        let seed: Vec<u8> = parts.into_iter().flat_map(digest::sha256).collect();
        Ok(Self {
            principal,
            standing: Arc::new(Standing::new("", String::new())),
            seed: Some(digest::sha256(&seed)),
        })
    }

    /// Whether the request came under a key.
    pub(super) const fn has_key(&self) -> bool {
        self.seed.is_some()
    }

    /// An id for `what`, of which a request makes one.
    pub(super) fn draw(&self, api: &Api, what: &str) -> [u8; 16] {
        let Some(seed) = self.seed else {
            return api.ids.draw();
        };
        let hash = digest::sha256(&[&seed, what.as_bytes()].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::testing::Bench;

    fn user(name: &str) -> Principal {
        Principal::User {
            uid: 0,
            name: name.to_owned(),
        }
    }

    fn caller(name: &str, path: &'static str, key: &str, body: &'static str) -> Caller {
        let mut headers = HeaderMap::new();
        headers.insert(KEY, HeaderValue::from_str(key).unwrap());
        let uri = Uri::from_static(path);
        Caller::of(
            user(name),
            (&Method::POST, &uri, &headers),
            &Bytes::from_static(body.as_bytes()),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn the_same_request_draws_the_same_and_every_other_draws_others() {
        let api = Bench::start().await.api;
        let one = caller("ann", "/v1/rotate", "k", "body");
        let id = one.draw(&api, "command");
        assert_eq!(
            caller("ann", "/v1/rotate", "k", "body").draw(&api, "command"),
            id
        );
        assert_ne!(one.draw(&api, "rotation"), id);
        for other in [
            caller("bob", "/v1/rotate", "k", "body"),
            caller("ann", "/v1/revoke", "k", "body"),
            caller("ann", "/v1/rotate", "l", "body"),
            caller("ann", "/v1/rotate", "k", "bodz"),
            caller("ann", "/v1/rotate", "kb", "ody"),
        ] {
            assert_ne!(other.draw(&api, "command"), id);
        }
    }

    #[tokio::test]
    async fn without_a_key_every_draw_is_fresh() {
        let api = Bench::start().await.api;
        let headers = HeaderMap::new();
        let uri = Uri::from_static("/v1/rotate");
        let one = Caller::of(user("ann"), (&Method::POST, &uri, &headers), &Bytes::new()).unwrap();
        assert_ne!(one.draw(&api, "command"), one.draw(&api, "command"));
    }

    #[test]
    fn a_key_out_of_bounds_is_refused() {
        let longest = "k".repeat(MAX_IDEMPOTENCY_KEY_BYTES);
        caller("ann", "/v1/rotate", &longest, "");
        for key in ["", "a b", &format!("{longest}k")] {
            let mut headers = HeaderMap::new();
            headers.insert(KEY, HeaderValue::from_str(key).unwrap());
            let uri = Uri::from_static("/v1/rotate");
            let refused = Caller::of(user("ann"), (&Method::POST, &uri, &headers), &Bytes::new());
            assert!(format!("{:?}", refused.unwrap_err()).contains("Idempotency-Key"));
        }
    }
}
