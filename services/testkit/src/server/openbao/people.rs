//! The server as a provider of identities: people with passwords in groups, and one client that asks who they are.

use super::OpenBao;

/// What people log in with there.
const PASSWORD: &str = "password-of-a-test-77aa";
/// Its path as a provider.
const PROVIDER: &str = "identity/oidc/provider/keywheel";

impl OpenBao {
    /// Makes it a provider with `ada`, who is in the group `payments`, for a public client that asks from any port of
    /// this machine. Gives the client's id.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn serve_people(&self) -> String {
        self.must("POST", "sys/auth/userpass", &[], r#"{"type":"userpass"}"#);
        let body = format!(r#"{{"password":"{PASSWORD}"}}"#);
        self.must("POST", "auth/userpass/users/ada", &[], &body);
        let mounts = self.must("GET", "sys/auth", &[], "");
        let mount = mounts.split("\"userpass/\":{").nth(1).unwrap_or_default();
        let accessor = word(mount, "\"accessor\":\"");
        let made = self.must("POST", "identity/entity", &[], r#"{"name":"ada"}"#);
        let entity = word(&made, ",\"id\":\"");
        for (path, body) in [
            (
                "identity/entity-alias",
                format!(
                    r#"{{"name":"ada","canonical_id":"{entity}","mount_accessor":"{accessor}"}}"#
                ),
            ),
            (
                "identity/group",
                format!(r#"{{"name":"payments","member_entity_ids":["{entity}"]}}"#),
            ),
            (
                "identity/oidc/key/keywheel",
                r#"{"allowed_client_ids":["*"],"algorithm":"ES256"}"#.to_owned(),
            ),
            (
                "identity/oidc/scope/people",
                r#"{"template":"{\"username\":{{identity.entity.name}},\"groups\":{{identity.entity.groups.names}}}"}"#
                    .to_owned(),
            ),
            (
                "identity/oidc/assignment/all",
                format!(r#"{{"entity_ids":["{entity}"]}}"#),
            ),
            (
                "identity/oidc/client/keywheel",
                r#"{"redirect_uris":["http://127.0.0.1/callback"],"assignments":["all"],"key":"keywheel","id_token_ttl":"30m","client_type":"public"}"#
                    .to_owned(),
            ),
        ] {
            self.must("POST", path, &[], &body);
        }
        let client = self.must("GET", "identity/oidc/client/keywheel", &[], "");
        let client = word(&client, "\"client_id\":\"");
        let issuer = format!("http://{}", self.address());
        let body = format!(
            r#"{{"allowed_client_ids":["{client}"],"scopes_supported":["people"],"issuer":"{issuer}"}}"#
        );
        self.must("POST", PROVIDER, &[], &body);
        client
    }

    /// What it calls itself.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}/v1/{PROVIDER}", self.address())
    }

    /// Ada logs in there, and lets whoever asks by this query have her identity: the code.
    ///
    /// # Panics
    /// When the server refuses.
    #[must_use]
    pub fn confirm_ada(&self, query: &str) -> String {
        let path = format!("{PROVIDER}/authorize?{query}");
        let (status, answer) = self.as_ada("GET", &path);
        assert_eq!(status, 200, "{answer}");
        word(&answer, "\"code\":\"")
    }

    /// Signs with a new key from now on.
    pub fn turn_identity_key(&self) {
        self.must("POST", "identity/oidc/key/keywheel/rotate", &[], "{}");
    }

    fn as_ada(&self, method: &str, path: &str) -> (u16, String) {
        let body = format!(r#"{{"password":"{PASSWORD}"}}"#);
        let login = self.must("POST", "auth/userpass/login/ada", &[], &body);
        let token = word(&login, "\"client_token\":\"");
        let asked = self.try_ask_as(&token, method, path, &[], "");
        asked.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }
}

/// What stands in an answer behind this, up to the next quotation mark.
fn word(answer: &str, before: &str) -> String {
    let rest = answer.split(before).nth(1);
    let word = rest.and_then(|rest| rest.split('"').next());
    word.unwrap_or_else(|| panic!("no {before} in {answer}"))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_somebody_is_by_a_code() {
        let server = OpenBao::start(None);
        let client = server.serve_people();
        let query = format!(
            "client_id={client}&response_type=code&scope=openid%20people&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Fcallback&state=s&nonce=n&code_challenge={}&code_challenge_method=S256",
            "a".repeat(43)
        );
        let codes = [server.confirm_ada(&query), server.confirm_ada(&query)];
        assert_ne!(codes[0], codes[1]);
        server.turn_identity_key();
        assert!(
            server
                .issuer()
                .ends_with("/v1/identity/oidc/provider/keywheel")
        );
    }
}
