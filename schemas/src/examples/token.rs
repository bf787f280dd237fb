//! The examples of a token.

use std::time::Duration;

use keywheel_core::id::TokenId;
use keywheel_core::name::TokenName;
use keywheel_core::token::{Event, Scope};

use super::{ExampleError, NIGHT, id};

pub(super) const TOKEN: TokenId = TokenId::from_bytes(id(0x0f));

pub(super) fn of_token() -> Result<Vec<Event>, ExampleError> {
    let scope = Scope {
        verbs: vec!["list".to_owned(), "rotate".to_owned()],
        resources: vec!["path/prod/payments".to_owned()],
    };
    Ok(vec![
        Event::Issued {
            name: TokenName::parse("nightly")?,
            hash: [7; 32],
            owner: "certificate:ada".to_owned(),
            scope,
            issued_at: NIGHT,
            expires_at: NIGHT.plus(Duration::from_secs(30 * 24 * 3600)),
            limit: Some(1000),
            login: None,
        },
        Event::UsesTaken { uses: 62 },
        Event::Revoked {
            by: "certificate:ada".to_owned(),
            reason: "the pipeline is gone".to_owned(),
        },
    ])
}
