//! Each claim that does not count, by itself.

use keywheel_schemas::config::login::ProviderFile;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn file() -> ProviderFile {
    ProviderFile {
        issuer: "https://id.example.org".to_owned(),
        client_id: "keywheel".to_owned(),
        client_secret_file: None,
        ca_file: None,
        name_claim: "preferred_username".to_owned(),
        groups_claim: Some("groups".to_owned()),
        scopes: Vec::new(),
        max_lifetime: None,
    }
}

fn good() -> Value {
    json!({
        "iss": "https://id.example.org", "aud": "keywheel", "sub": "4711", "nonce": "n",
        "iat": NOW, "exp": NOW + 600, "preferred_username": "ada",
        "groups": ["payments", "all staff", "payments"],
    })
}

fn read_of(
    claims: &Value,
    file: &ProviderFile,
    nonce: Option<&str>,
) -> Result<Identity, ClaimError> {
    let expected = Expected {
        file,
        nonce,
        now: Timestamp::from_micros(NOW * 1_000_000),
    };
    read(claims.as_object().unwrap(), &expected)
}

/// The good ones but for this one; `null` takes it away.
fn but(name: &str, value: Value) -> Result<Identity, ClaimError> {
    let mut claims = good();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    read_of(&claims, &file(), Some("n"))
}

#[test]
fn somebody_is_named_with_groups_and_an_end() {
    let ada = read_of(&good(), &file(), Some("n")).unwrap();
    assert_eq!((ada.name.as_str(), ada.subject.as_str()), ("ada", "4711"));
    assert_eq!(ada.groups, ["all staff", "payments"]);
    assert_eq!(ada.ends_at, Timestamp::from_micros((NOW + 600) * 1_000_000));
    // Where no claim is configured nobody is in a group.
    let mut without = file();
    without.groups_claim = None;
    let ada = read_of(&good(), &without, Some("n")).unwrap();
    assert!(ada.groups.is_empty());
    assert!(but("groups", Value::Null).unwrap().groups.is_empty());
    // By a device code or a refresh token no nonce comes.
    assert!(read_of(&good(), &file(), None).is_ok());
}

#[test]
fn of_another_issuer_client_or_login_nothing_counts() {
    for issuer in [
        json!("https://id.example.org/"),
        json!("https://evil.example"),
        json!(7),
        Value::Null,
    ] {
        assert_eq!(but("iss", issuer), Err(ClaimError::Issuer));
    }
    for audience in [
        json!("other"),
        json!([]),
        json!([7]),
        json!(["other"]),
        json!(["keywheel", "other"]),
        Value::Null,
    ] {
        let refused = but("aud", audience.clone());
        assert_eq!(refused, Err(ClaimError::Audience), "{audience}");
    }
    assert!(but("aud", json!(["keywheel"])).is_ok());
    assert_eq!(but("azp", json!("other")), Err(ClaimError::Audience));
    let mut of_two = good();
    of_two["aud"] = json!(["other", "keywheel"]);
    of_two["azp"] = json!("keywheel");
    assert!(read_of(&of_two, &file(), Some("n")).is_ok());
    for nonce in [json!("m"), json!(""), Value::Null] {
        assert_eq!(but("nonce", nonce), Err(ClaimError::Nonce));
    }
}

#[test]
fn what_is_over_or_of_a_time_to_come_does_not_count() {
    for end in [json!(NOW), json!(NOW - 1), json!(0)] {
        assert_eq!(but("exp", end), Err(ClaimError::Over));
    }
    for end in [
        Value::Null,
        json!("soon"),
        json!(-1),
        json!(-1.5),
        json!(1.0e300),
        // Milliseconds, and what is beyond any time.
        json!((NOW + 600) * 1000),
        json!(i64::MAX),
        json!(u64::MAX),
    ] {
        let refused = but("exp", end.clone());
        assert_eq!(refused, Err(ClaimError::Time("exp")), "{end}");
    }
    let whole = but("exp", json!(1_800_000_001.9)).unwrap();
    assert_eq!(whole.ends_at.micros() / 1_000_000, NOW + 1);
    assert_eq!(but("iat", Value::Null), Err(ClaimError::Time("iat")));
    let late = NOW + CLOCK_SKEW_SECONDS;
    assert!(but("iat", json!(late)).is_ok() && but("nbf", json!(late)).is_ok());
    assert_eq!(but("iat", json!(late + 1)), Err(ClaimError::Early));
    assert_eq!(but("nbf", json!(late + 1)), Err(ClaimError::Early));
}

#[test]
fn a_name_is_one_word_that_cannot_be_taken_for_something_else() {
    let wrong = || Err(ClaimError::Name("preferred_username".to_owned()));
    for name in [
        json!(""),
        json!("ada b"),
        json!("a\"b"),
        json!("oidc:ada"),
        json!("a/b"),
        json!("äda"),
        json!("a\nb"),
        json!("x".repeat(MAX_NAME_BYTES + 1)),
        json!(7),
        Value::Null,
    ] {
        assert_eq!(but("preferred_username", name.clone()), wrong(), "{name}");
    }
    assert!(but("preferred_username", json!("Ada.B+c_d-e@x|1")).is_ok());
    for subject in [
        json!(""),
        json!("x".repeat(256)),
        json!("a\nb"),
        Value::Null,
    ] {
        assert_eq!(but("sub", subject), Err(ClaimError::Name("sub".to_owned())));
    }
    let mut by_mail = file();
    by_mail.name_claim = "email".to_owned();
    let mut claims = good();
    claims["email"] = json!("ada@example.org");
    for verified in [json!(false), json!("true"), Value::Null] {
        claims["email_verified"] = verified;
        let refused = read_of(&claims, &by_mail, None);
        assert_eq!(refused, Err(ClaimError::Unverified));
    }
    claims["email_verified"] = json!(true);
    let ada = read_of(&claims, &by_mail, None).unwrap();
    assert_eq!(ada.name, "ada@example.org");
}

#[test]
fn groups_that_cannot_be_written_down_refuse_the_whole() {
    let wrong = || Err(ClaimError::Groups("groups".to_owned()));
    let many: Vec<String> = (0..=MAX_LOGIN_GROUPS).map(|n| n.to_string()).collect();
    for groups in [
        json!("payments"),
        json!({ "payments": true }),
        json!([7]),
        json!([""]),
        json!(["a\nb"]),
        json!(["x".repeat(MAX_LOGIN_GROUP_BYTES + 1)]),
        json!(many),
    ] {
        assert_eq!(but("groups", groups.clone()), wrong(), "{groups}");
    }
    assert!(but("groups", json!(many[1..])).is_ok());
    assert!(but("groups", json!([])).unwrap().groups.is_empty());
    let mut elsewhere = good();
    elsewhere["groups"] = Value::Null;
    elsewhere["_claim_names"] = json!({ "groups": "src1" });
    assert_eq!(read_of(&elsewhere, &file(), Some("n")), wrong());
    elsewhere["_claim_names"] = json!({ "roles": "src1" });
    assert!(read_of(&elsewhere, &file(), Some("n")).is_ok());
}
