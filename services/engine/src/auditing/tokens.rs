//! Records of what was done about tokens. Their names, never what they open with.

use keywheel_core::token::{Issue, Request, Which};

use super::Described;

/// Verb and object.
pub(super) fn described(request: &Request) -> Described {
    match request {
        Request::Issue(Issue {
            name,
            login: Some(_),
            ..
        }) => ("login", format!("token/{name}"), None),
        Request::Issue(Issue { name, .. }) => ("issue-token", format!("token/{name}"), None),
        Request::Take { token, .. } => ("count-token-uses", format!("token/{token}"), None),
        Request::Revoke { which, .. } => match which {
            Which::Named(name) => ("revoke-token", format!("token/{name}"), None),
            Which::Of(owner) => ("revoke-tokens", format!("owner/{owner}"), None),
        },
    }
}
