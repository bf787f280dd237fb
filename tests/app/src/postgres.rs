//! PostgreSQL's protocol, version 3: a login by SCRAM-SHA-256, and simple queries.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::digest::base64;
use crate::login::Login;
use crate::place::Place;
use crate::scram::Scram;
use crate::session::{Failure, connect};

const PROTOCOL: u32 = 3 << 16;
const MECHANISM: &[u8] = b"SCRAM-SHA-256\0";
/// What the server asks for, or says, of a login.
const IS_LET_IN: u32 = 0;
const SASL: u32 = 10;
const SASL_CHALLENGE: u32 = 11;
const SASL_END: u32 = 12;
/// A wrong password, and a role that may not sign in.
const REFUSALS: [&str; 2] = ["28P01", "28000"];
const NONCE_BYTES: usize = 18;
/// A longer message is no answer to what is asked here.
const MAX_MESSAGE: usize = 1 << 20;

/// A connection that is signed in.
pub(crate) struct Postgres(TcpStream);

impl Postgres {
    pub(crate) fn open(place: &Place, login: &Login) -> Result<Self, Failure> {
        let mut session = Self(connect(place.address)?);
        let mut hello = PROTOCOL.to_be_bytes().to_vec();
        for text in ["user", &login.user, "database", &place.name] {
            hello.extend(text.as_bytes());
            hello.push(0);
        }
        hello.push(0);
        session.send(None, &hello)?;
        session.sign_in(login)?;
        session.until(b"Z")?;
        Ok(session)
    }

    fn sign_in(&mut self, login: &Login) -> Result<(), Failure> {
        self.asked(SASL)?;
        let scram = Scram::begin("", &nonce()?);
        let message = scram.message();
        let mut first = MECHANISM.to_vec();
        first.extend(length(message.len()));
        first.extend(message.as_bytes());
        self.send(Some(b'p'), &first)?;
        let challenge = self.asked(SASL_CHALLENGE)?;
        let challenge = String::from_utf8_lossy(&challenge);
        let proof = scram.prove(&challenge, &login.password);
        let proof = proof.ok_or_else(|| Failure::broken("the server's challenge is none"))?;
        self.send(Some(b'p'), proof.message.as_bytes())?;
        if self.asked(SASL_END)? != proof.expected.as_bytes() {
            return Err(Failure::broken("the server does not know the password"));
        }
        self.asked(IS_LET_IN).map(drop)
    }

    pub(crate) fn run(&mut self, statement: &str) -> Result<String, Failure> {
        let mut query = statement.as_bytes().to_vec();
        query.push(0);
        self.send(Some(b'Q'), &query)?;
        let mut value = String::new();
        loop {
            let (tag, body) = self.until(b"DZ")?;
            if tag == b'Z' {
                return Ok(value);
            }
            if value.is_empty() {
                value = first_column(&body).unwrap_or_default();
            }
        }
    }

    pub(crate) fn close(mut self) {
        // It ends also when nobody listens any more.
        let _said = self.send(Some(b'X'), &[]);
    }

    /// What is behind the word of this number about the login.
    fn asked(&mut self, wanted: u32) -> Result<Vec<u8>, Failure> {
        let (_, body) = self.until(b"R")?;
        let word = body
            .first_chunk::<4>()
            .map(|word| u32::from_be_bytes(*word));
        match word {
            Some(word) if word == wanted => Ok(body.get(4..).unwrap_or_default().to_vec()),
            _ => Err(Failure::broken(format!(
                "the server asks for way {word:?} in, and not for {wanted}"
            ))),
        }
    }

    /// The next message of these kinds; an error of the server's ends it.
    fn until(&mut self, kinds: &[u8]) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            let (tag, body) = self.receive()?;
            if tag == b'E' {
                return Err(failure(&body));
            }
            if kinds.contains(&tag) {
                return Ok((tag, body));
            }
        }
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head)?;
        let [tag, size @ ..] = head;
        let size = u32::from_be_bytes(size) as usize;
        let size = size.checked_sub(4).filter(|size| *size <= MAX_MESSAGE);
        let size = size.ok_or_else(|| Failure::broken("no message has this length"))?;
        let mut body = vec![0; size];
        self.0.read_exact(&mut body)?;
        Ok((tag, body))
    }

    fn send(&mut self, tag: Option<u8>, body: &[u8]) -> Result<(), Failure> {
        let mut message: Vec<u8> = tag.into_iter().collect();
        message.extend(length(body.len() + 4));
        message.extend(body);
        Ok(self.0.write_all(&message)?)
    }
}

fn length(bytes: usize) -> [u8; 4] {
    (bytes as u32).to_be_bytes()
}

fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; NONCE_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(base64(&bytes))
}

/// What an error of the server's means; its text might quote what was sent.
fn failure(body: &[u8]) -> Failure {
    let mut fields = body.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"));
    let code = String::from_utf8_lossy(code.unwrap_or_default());
    match REFUSALS.contains(&&*code) {
        true => Failure::Refused,
        false => Failure::Broken(format!("PostgreSQL says {code}")),
    }
}

fn first_column(row: &[u8]) -> Option<String> {
    let rest = row.get(2..)?;
    let size = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
    let value = rest.get(4..)?.get(..size)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_their_code_and_not_quoted() {
        let error = |code: &str| failure(format!("SFATAL\0C{code}\0Msecret\0\0").as_bytes());
        assert_eq!(error("28P01"), Failure::Refused);
        assert_eq!(error("28000"), Failure::Refused);
        let other = error("57P01").to_string();
        assert!(
            other.contains("57P01") && !other.contains("secret"),
            "{other}"
        );
    }

    #[test]
    fn the_first_column_of_a_row_is_read() {
        let row = b"\0\x02\0\0\0\x02ab\0\0\0\x01c";
        assert_eq!(first_column(row).as_deref(), Some("ab"));
        assert_eq!(first_column(b"\0\x01\xff\xff\xff\xff"), None);
        assert_eq!(first_column(b""), None);
    }
}
