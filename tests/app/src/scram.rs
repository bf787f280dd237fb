//! The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL speaks it. Pure.

use crate::digest::{base64, hmac, pbkdf2, sha256, unbase64, xor};

/// No channel binding, and none was offered; as text, and in base64.
const HEADER: &str = "n,,";
const HEADER_BASE64: &str = "biws";
/// More rounds than this are no server of a test.
const MAX_ROUNDS: u32 = 1 << 20;

/// A login that began.
pub(crate) struct Scram {
    nonce: String,
    /// The first message without its header.
    first: String,
}

/// What proves that both sides know the password.
pub(crate) struct Proof {
    /// The client's last message.
    pub(crate) message: String,
    /// What the server has to answer.
    pub(crate) expected: String,
}

impl Scram {
    /// Begins with a nonce. The server knows the user already.
    pub(crate) fn begin(user: &str, nonce: &str) -> Self {
        Self {
            nonce: nonce.to_owned(),
            first: format!("n={user},r={nonce}"),
        }
    }

    /// The client's first message.
    pub(crate) fn message(&self) -> String {
        format!("{HEADER}{}", self.first)
    }

    /// Answers the server's challenge; nothing when that is none.
    pub(crate) fn prove(&self, challenge: &str, password: &str) -> Option<Proof> {
        let mut fields = challenge.split(',');
        let nonce = fields.next()?.strip_prefix("r=")?;
        let salt = unbase64(fields.next()?.strip_prefix("s=")?)?;
        let rounds: u32 = fields.next()?.strip_prefix("i=")?.parse().ok()?;
        if !nonce.starts_with(&self.nonce) || !(1..=MAX_ROUNDS).contains(&rounds) {
            return None;
        }
        let without_proof = format!("c={HEADER_BASE64},r={nonce}");
        let signed = format!("{},{challenge},{without_proof}", self.first);
        let salted = pbkdf2(password.as_bytes(), &salt, rounds);
        let client = hmac(&salted, b"Client Key");
        let signature = hmac(&sha256(&client), signed.as_bytes());
        let proof = base64(&xor(client, signature));
        let server = hmac(&salted, b"Server Key");
        let expected = base64(&hmac(&server, signed.as_bytes()));
        Some(Proof {
            message: format!("{without_proof},p={proof}"),
            expected: format!("v={expected}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_comes_out() {
        let scram = Scram::begin("user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let challenge = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let proof = scram.prove(&challenge, "pencil").unwrap();
        assert_eq!(
            proof.message,
            format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        );
        assert_eq!(
            proof.expected,
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn a_challenge_of_somebody_else_is_not_answered() {
        let scram = Scram::begin("", "mine");
        for challenge in [
            "",
            "r=other,s=c2FsdA==,i=1",
            "r=mine,s=c2FsdA==,i=0",
            "r=mine,s=?,i=1",
        ] {
            assert!(scram.prove(challenge, "pencil").is_none(), "{challenge}");
        }
    }
}
