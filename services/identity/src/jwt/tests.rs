//! Tokens that were signed here, and each way in which one does not count.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

/// Example A.2 of RFC 7515: a key, and a token that it signed with RS256.
const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ed25519() -> (Ed25519KeyPair, Value) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
        "x": base64(pair.public_key().as_ref()),
    });
    (pair, key)
}

fn unsigned(head: &Value, body: &str) -> String {
    format!(
        "{}.{}",
        base64(head.to_string().as_bytes()),
        base64(body.as_bytes())
    )
}

/// A token that the key signed.
fn signed(head: &Value, body: &str) -> String {
    let (pair, _) = ed25519();
    let text = unsigned(head, body);
    let signature = pair.sign(text.as_bytes());
    format!("{text}.{}", base64(signature.as_ref()))
}

fn head() -> Value {
    json!({ "alg": "EdDSA", "kid": "ed" })
}

fn keys(all: &[Value]) -> Keys {
    Keys::parse(json!({ "keys": all }).to_string().as_bytes()).unwrap()
}

fn own() -> Keys {
    keys(&[ed25519().1])
}

#[test]
fn each_of_the_three_algorithms_counts() {
    let token = signed(&head(), "{\"sub\":\"ada\"}");
    assert_eq!(claims(token.as_bytes(), &own()).unwrap()["sub"], "ada");

    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let key = json!({
        "kty": "EC", "crv": "P-256", "kid": "p", "alg": "ES256",
        "x": base64(&point[1..33]), "y": base64(&point[33..]),
    });
    let text = unsigned(&json!({ "alg": "ES256", "kid": "p" }), "{\"sub\":\"bob\"}");
    let signature = pair.sign(&random, text.as_bytes()).unwrap();
    let token = format!("{text}.{}", base64(signature.as_ref()));
    let all = keys(&[ed25519().1, key]);
    assert_eq!(claims(token.as_bytes(), &all).unwrap()["sub"], "bob");

    let rsa = keys(&[json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB" })]);
    let told = claims(RSA_TOKEN.as_bytes(), &rsa).unwrap();
    assert_eq!(told["iss"], "joe");
}

#[test]
fn what_no_key_of_the_provider_signed_does_not_count() {
    let good = signed(&head(), "{\"sub\":\"ada\"}");
    let (first, last) = good.rsplit_once('.').unwrap();
    let other = signed(&head(), "{\"sub\":\"eve\"}");
    let other = other.rsplit_once('.').unwrap().1;
    for token in [
        format!("{first}.{other}"),
        format!("{first}."),
        format!("{first}.{}", &last[..last.len() - 2]),
        format!("{}.{last}", unsigned(&head(), "{\"sub\":\"eve\"}")),
    ] {
        assert_eq!(
            claims(token.as_bytes(), &own()),
            Err(JwtError::Signature),
            "{token}"
        );
    }
}

#[test]
fn other_algorithms_never_count_and_none_the_least() {
    for alg in ["none", "None", "", "HS256", "RS512", "ES384", "eddsa"] {
        let head = json!({ "alg": alg, "kid": "ed" });
        let unsigned = format!("{}.", unsigned(&head, "{\"sub\":\"ada\"}"));
        for token in [unsigned, signed(&head, "{\"sub\":\"ada\"}")] {
            let refused = claims(token.as_bytes(), &own());
            assert_eq!(refused, Err(JwtError::Algorithm(alg.to_owned())), "{alg}");
        }
    }
    // A key of another algorithm is not taken for it.
    let head = json!({ "alg": "ES256", "kid": "ed" });
    let token = signed(&head, "{}");
    let unknown = JwtError::UnknownKey("ed".to_owned());
    assert_eq!(claims(token.as_bytes(), &own()), Err(unknown));
}

#[test]
fn a_key_counts_by_its_name_and_none_that_a_token_brings_along() {
    let (pair, key) = ed25519();
    let x = base64(pair.public_key().as_ref());
    let mut stray = head();
    stray["kid"] = "other".into();
    stray["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let token = signed(&stray, "{}");
    let unknown = JwtError::UnknownKey("other".to_owned());
    assert_eq!(claims(token.as_bytes(), &own()), Err(unknown));
    // Without a name there has to be one alone.
    let nameless = signed(&json!({ "alg": "EdDSA" }), "{}");
    assert!(claims(nameless.as_bytes(), &own()).is_ok());
    let mut second = key.clone();
    second["kid"] = "second".into();
    let two = keys(&[key, second]);
    let unknown = JwtError::UnknownKey(String::new());
    assert_eq!(claims(nameless.as_bytes(), &two), Err(unknown));
}

#[test]
fn what_has_another_form_is_refused_before_anything_of_it_is_read() {
    let good = signed(&head(), "{\"sub\":\"ada\"}");
    let large = signed(
        &head(),
        &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_JWT_BYTES)),
    );
    assert_eq!(claims(large.as_bytes(), &own()), Err(JwtError::TooLarge));
    let mut critical = head();
    critical["crit"] = json!(["exp"]);
    let critical = signed(&critical, "{}");
    assert_eq!(claims(critical.as_bytes(), &own()), Err(JwtError::Critical));
    for token in [
        String::new(),
        "a.b".to_owned(),
        format!("{good}.x"),
        format!("{good}="),
        good.replacen('.', "!.", 1),
        signed(&json!([]), "{}"),
        signed(&json!({ "kid": "ed" }), "{}"),
        signed(&head(), "[]"),
        signed(&head(), "{"),
    ] {
        let refused = claims(token.as_bytes(), &own());
        assert!(
            matches!(refused, Err(JwtError::Malformed(_))),
            "{token}: {refused:?}"
        );
    }
}

#[test]
fn keys_of_other_kinds_are_left_out_and_a_document_without_any_is_refused() {
    let (_, key) = ed25519();
    let mut encrypts = key.clone();
    encrypts["use"] = "enc".into();
    let mut for_another = key.clone();
    for_another["alg"] = "ES256".into();
    let odd = [
        json!({ "kty": "oct", "k": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }),
        json!({ "kty": "RSA", "n": "!" }),
        json!(7),
        encrypts,
        for_another,
    ];
    let mut all = odd.to_vec();
    all.push(key);
    assert_eq!(keys(&all), own());
    let refused =
        |document: &str| matches!(Keys::parse(document.as_bytes()), Err(JwtError::Keys(_)));
    assert!(refused(&json!({ "keys": odd }).to_string()));
    assert!(refused("{}") && refused("[]") && refused(""));
    let many = vec![json!({}); MAX_KEYS + 1];
    assert!(refused(&json!({ "keys": many }).to_string()));
    assert!(refused(&" ".repeat(MAX_KEYS_BYTES + 1)));
}
