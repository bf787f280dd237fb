//! Tokens, and who somebody is taken for, in words. Pure.

use keywheel_schemas::api::{MayView, RevokeTokensAnswer, TokenView, WhoamiView};

use super::table::{columns, fields};
use super::tame;

/// Tokens.
pub(crate) fn tokens(all: &[TokenView], color: bool) -> String {
    let row = |token: &TokenView| {
        vec![
            tame(&token.name),
            tame(&token.owner),
            token.state.clone(),
            tame(&token.verbs.join(",")),
            tame(&token.resources.join(",")),
            token.expires_at.clone(),
            left(token),
        ]
    };
    let headers = [
        "NAME",
        "OWNER",
        "STATE",
        "MAY",
        "ON",
        "EXPIRES",
        "USES LEFT",
    ];
    columns(&headers, all.iter().map(row).collect(), color)
}

fn left(token: &TokenView) -> String {
    match (token.left, token.limit) {
        (Some(left), Some(limit)) => format!("{left} of {limit}"),
        _ => "-".to_owned(),
    }
}

/// What is told beside a new token.
pub(crate) fn issue_note(issued: &TokenView) -> String {
    let uses = match issued.limit {
        Some(limit) => format!(", {limit} times at most"),
        None => String::new(),
    };
    format!(
        "whoever has this may {} {} in the name of {} until {}{uses}; it is shown this once, keep it from everyone else:",
        tame(&issued.verbs.join(", ")),
        tame(&issued.resources.join(", ")),
        tame(&issued.owner),
        tame(&issued.expires_at),
    )
}

/// What was revoked.
pub(crate) fn revoked(answer: &RevokeTokensAnswer) -> String {
    let names: Vec<String> = answer.revoked.iter().map(|name| tame(name)).collect();
    format!("opens nothing any more: {}\n", names.join(", "))
}

/// Who somebody is taken for.
pub(crate) fn whoami(told: &WhoamiView) -> String {
    let token = told.token.as_ref();
    let of_token = |text: fn(&TokenView) -> String| token.map(text).unwrap_or_default();
    let came_by = match token {
        Some(_) => tame(&told.came_by),
        None => String::new(),
    };
    let head = fields(&[
        ("principal", tame(&told.principal)),
        ("name", tame(&told.name)),
        ("proof", tame(&told.proof)),
        ("owner came by", came_by),
        ("until", told.until.as_deref().map(tame).unwrap_or_default()),
        ("token", of_token(|token| tame(&token.name))),
        ("uses left", of_token(left)),
        (
            "policies",
            match told.policies {
                0 => "shipped".to_owned(),
                version => format!("version {version}"),
            },
        ),
    ]);
    let may: String = told.may.iter().map(line).collect();
    let may = match may.is_empty() {
        true => "  nothing but to come in\n".to_owned(),
        false => may,
    };
    format!("{}\nmay\n{may}", head.trim_end_matches('\n'))
}

fn line(may: &MayView) -> String {
    let of: Vec<String> = may.of.iter().map(|one| tame(one)).collect();
    let more = if may.is_cut {
        ", and more was not looked at"
    } else {
        ""
    };
    let of = match of.is_empty() {
        true => "nothing that was looked at".to_owned(),
        false => of.join(", "),
    };
    format!("  {}: {of}{more}\n", tame(&may.verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenView {
        TokenView {
            name: "nightly".to_owned(),
            owner: "certificate:ada".to_owned(),
            verbs: vec!["list".to_owned(), "rotate".to_owned()],
            resources: vec!["path/prod".to_owned()],
            issued_at: "2026-01-04T02:00:00Z".to_owned(),
            expires_at: "2026-02-03T02:00:00Z".to_owned(),
            limit: Some(10),
            left: Some(7),
            state: "alive".to_owned(),
            issuer: None,
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_list_says_what_each_is_good_for() {
        let text = tokens(&[token()], false);
        for part in [
            "nightly",
            "certificate:ada",
            "list,rotate",
            "path/prod",
            "7 of 10",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let free = TokenView {
            limit: None,
            left: None,
            ..token()
        };
        assert_eq!(left(&free), "-");
        assert!(issue_note(&token()).contains("10 times at most"));
        assert!(!issue_note(&free).contains("times at most"));
    }

    #[test]
    fn who_somebody_is_taken_for_is_told_with_the_proof_and_the_rights() {
        let may = |verb: &str, of: &[&str], is_cut| MayView {
            verb: verb.to_owned(),
            of: of.iter().map(|one| (*one).to_owned()).collect(),
            is_cut,
        };
        let told = WhoamiView {
            principal: "certificate:ada".to_owned(),
            name: "ada".to_owned(),
            proof: "token".to_owned(),
            came_by: "client-certificate".to_owned(),
            until: Some("2026-02-03T02:00:00Z".to_owned()),
            token: Some(token()),
            policies: 3,
            may: vec![
                may("list", &["secret/prod/db", "store/bao"], false),
                may("rotate", &[], true),
            ],
        };
        let text = whoami(&told);
        for part in [
            "certificate:ada",
            "client-certificate",
            "7 of 10",
            "version 3",
            "  list: secret/prod/db, store/bao\n",
            "  rotate: nothing that was looked at, and more was not looked at\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let nobody = WhoamiView {
            token: None,
            may: Vec::new(),
            ..told
        };
        let text = whoami(&nobody);
        assert!(text.contains("nothing but to come in") && !text.contains("owner came by"));
    }
}
