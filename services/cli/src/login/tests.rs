//! A login that ends soon, and what comes of it where the gateway renews it, says no, or is not there.

use keywheel_schemas::api::TokenView;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

/// A gateway's socket and the place of logins, both in a directory of a test's own.
struct Desk {
    dir: tempfile::TempDir,
    place: Place,
    named: Named,
}

impl Desk {
    fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let named = Named {
            address: format!("unix://{}", dir.path().join("gateway").display()),
            identity: None,
            token_file: None,
            ca_file: None,
        };
        Self {
            place: Place::at(&dir.path().join("logins")),
            dir,
            named,
        }
    }

    /// Keeps one that ends in so many seconds.
    fn keep(&self, seconds: i64, refresh_token: Option<&str>) -> Kept {
        let login = Kept {
            address: self.named.address.clone(),
            principal: "oidc:ada".to_owned(),
            token: "kw1_first".to_owned(),
            expires_at: time_in(seconds),
            refresh_token: refresh_token.map(str::to_owned),
            ca_file: None,
        };
        self.place.keep(&login).unwrap();
        login
    }

    /// A gateway that answers one request like this.
    fn answers(&self, status: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let listener = UnixListener::bind(self.dir.path().join("gateway")).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let _read = stream.read(&mut seen).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            // What is left unread when it ends would end the answer, too.
            while stream.read(&mut seen).await.is_ok_and(|more| more > 0) {}
        });
    }

    async fn renewed(&self) -> Result<Kept, Failure> {
        renewed(&self.place, &self.named).await
    }

    fn kept(&self) -> Kept {
        self.place.read(&self.named.address).unwrap().unwrap()
    }
}

fn time_in(seconds: i64) -> String {
    let now = SystemClock::new().now().micros().div_euclid(1_000_000);
    jiff::Timestamp::from_second(now + seconds)
        .unwrap()
        .to_string()
}

fn answer(owner: &str, refresh_token: Option<&str>) -> String {
    let login = TokenView {
        name: "login-1".to_owned(),
        owner: owner.to_owned(),
        verbs: Vec::new(),
        resources: Vec::new(),
        issued_at: time_in(0),
        expires_at: time_in(900),
        limit: None,
        left: None,
        state: "alive".to_owned(),
        issuer: None,
        groups: Vec::new(),
    };
    let answer = LoginAnswer {
        state: "done".to_owned(),
        interval_seconds: None,
        token: Some("kw1_second".to_owned()),
        login: Some(login),
        refresh_token: refresh_token.map(str::to_owned),
    };
    serde_json::to_string(&answer).unwrap()
}

#[tokio::test]
async fn one_that_ends_soon_is_renewed_once_and_the_refresh_token_is_kept() {
    for (given, kept) in [(Some("new"), "new"), (None, "old")] {
        let desk = Desk::set();
        desk.keep(30, Some("old"));
        desk.answers("200 OK", &answer("oidc:ada", given));
        assert_eq!(desk.renewed().await.unwrap().token, "kw1_second");
        assert_eq!(desk.kept().refresh_token.as_deref(), Some(kept));
        // The gateway answers nobody else, and nobody has to ask it.
        assert_eq!(desk.renewed().await.unwrap().token, "kw1_second");
    }
}

#[tokio::test]
async fn where_nobody_can_renew_it_now_it_is_good_for_as_long_as_it_lasts() {
    let desk = Desk::set();
    desk.keep(30, Some("old"));
    assert_eq!(desk.renewed().await.unwrap().token, "kw1_first");
    desk.keep(30, None);
    assert_eq!(desk.renewed().await.unwrap().token, "kw1_first");
    desk.keep(-1, Some("old"));
    let refused = desk.renewed().await.unwrap_err();
    assert_eq!(refused.exit, Exit::Unavailable, "{refused}");
    desk.keep(-1, None);
    let refused = desk.renewed().await.unwrap_err();
    assert_eq!(refused.exit, Exit::Denied, "{refused}");
    assert!(refused.what.contains("is over"), "{refused}");
}

#[tokio::test]
async fn who_is_refused_or_somebody_else_comes_in_no_more() {
    let desk = Desk::set();
    desk.keep(30, Some("old"));
    let problem = r#"{"type":"about:blank#denied","title":"denied","status":403,"detail":"the provider does not confirm who this is","code":"denied"}"#;
    desk.answers("403 Forbidden", problem);
    let refused = desk.renewed().await.unwrap_err();
    assert_eq!(refused.exit, Exit::Denied, "{refused}");

    let desk = Desk::set();
    desk.keep(30, Some("old"));
    desk.answers("200 OK", &answer("oidc:eve", None));
    let refused = desk.renewed().await.unwrap_err();
    assert!(refused.what.contains("`oidc:eve`"), "{refused}");
    assert_eq!(desk.kept().token, "kw1_first");
}
