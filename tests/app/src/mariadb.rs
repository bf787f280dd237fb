//! MariaDB's protocol, version 10: a login by `mysql_native_password`, and text queries.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::digest::{sha1, xor};
use crate::login::Login;
use crate::place::Place;
use crate::session::{Failure, connect};

/// Long passwords, a database at the login, protocol 4.1, transactions, its way of passwords, plugins.
const CAPABILITIES: u32 = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
const MAX_PACKET: u32 = 1 << 24;
const UTF8: u8 = 33;
const PLUGIN: &[u8] = b"mysql_native_password";
const SCRAMBLE_BYTES: usize = 20;
/// An account has a few ways in at most, and the server asks by each.
const MAX_ROUNDS: usize = 8;
/// Codes with which a login is turned away: wrong password or no such user, no password is taken, locked.
const REFUSALS: [u16; 3] = [1045, 1698, 4151];
const OK: u8 = 0x00;
const NULL: u8 = 0xfb;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;
/// An end of rows is shorter than this, and a row that begins alike is not.
const END_BYTES: usize = 9;
const QUERY: u8 = 3;
const QUIT: u8 = 1;

/// A connection that is signed in.
pub(crate) struct MariaDb {
    stream: TcpStream,
    /// Number of the next packet.
    next: u8,
}

impl MariaDb {
    pub(crate) fn open(place: &Place, login: &Login) -> Result<Self, Failure> {
        let mut session = Self {
            stream: connect(place.address)?,
            next: 0,
        };
        let greeting = session.receive()?;
        let scramble = scramble(&greeting).ok_or_else(strange)?;
        let proof = proof(&scramble, &login.password);
        let mut hello = CAPABILITIES.to_le_bytes().to_vec();
        hello.extend(MAX_PACKET.to_le_bytes());
        hello.push(UTF8);
        hello.extend([0; 23]);
        hello.extend(login.user.as_bytes());
        hello.extend([0, 20]);
        hello.extend(proof);
        hello.extend(place.name.as_bytes());
        hello.push(0);
        hello.extend(PLUGIN);
        hello.push(0);
        session.send(&hello)?;
        session.sign_in(login)?;
        Ok(session)
    }

    /// Answers as often as the server asks for another way in.
    fn sign_in(&mut self, login: &Login) -> Result<(), Failure> {
        for _ in 0..MAX_ROUNDS {
            let answer = self.receive()?;
            match answer.split_first() {
                Some((&OK, _)) => return Ok(()),
                Some((&END, asked)) => {
                    let rest = asked
                        .strip_prefix(PLUGIN)
                        .and_then(|rest| rest.strip_prefix(b"\0"));
                    let scramble = rest.and_then(|rest| rest.get(..SCRAMBLE_BYTES));
                    let scramble = scramble
                        .ok_or_else(|| Failure::broken("the server asks for another way in"))?;
                    self.send(&proof(scramble, &login.password))?;
                }
                _ => return Err(strange()),
            }
        }
        Err(strange())
    }

    pub(crate) fn run(&mut self, statement: &str) -> Result<String, Failure> {
        self.begin(QUERY, statement.as_bytes())?;
        if self.receive()?.first() == Some(&OK) {
            return Ok(String::new());
        }
        // Columns, rows; an end behind each.
        while !is_end(&self.receive()?) {}
        let mut value = None;
        loop {
            let row = self.receive()?;
            if is_end(&row) {
                return Ok(value.unwrap_or_default());
            }
            value = value.or_else(|| first_column(&row));
        }
    }

    pub(crate) fn close(mut self) {
        // It ends also when nobody listens any more.
        let _said = self.begin(QUIT, &[]);
    }

    fn begin(&mut self, command: u8, body: &[u8]) -> Result<(), Failure> {
        self.next = 0;
        self.send(&[&[command][..], body].concat())
    }

    fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, number] = head;
        self.next = number.wrapping_add(1);
        let mut body = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        self.stream.read_exact(&mut body)?;
        match body.first() {
            Some(&ERROR) => Err(failure(&body)),
            Some(_) => Ok(body),
            None => Err(strange()),
        }
    }

    fn send(&mut self, body: &[u8]) -> Result<(), Failure> {
        let [a, b, c, _] = (body.len() as u32).to_le_bytes();
        let packet = [&[a, b, c, self.next][..], body].concat();
        self.next = self.next.wrapping_add(1);
        Ok(self.stream.write_all(&packet)?)
    }
}

/// What a proof is made with: two parts of the greeting, behind its version and its thread's number.
fn scramble(greeting: &[u8]) -> Option<Vec<u8>> {
    let rest = greeting.strip_prefix(&[10_u8])?;
    let version = rest.iter().position(|byte| *byte == 0)?;
    let rest = rest.get(version + 1 + 4..)?;
    let (first, second) = (rest.get(..8)?, rest.get(27..39)?);
    Some([first, second].concat())
}

/// Proves a password without sending it.
fn proof(scramble: &[u8], password: &str) -> [u8; SCRAMBLE_BYTES] {
    let once = sha1(password.as_bytes());
    let twice = sha1(&once);
    xor(once, sha1(&[scramble, &twice].concat()))
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() < END_BYTES
}

/// A value of up to 250 bytes: counts and names.
fn first_column(row: &[u8]) -> Option<String> {
    let (size, rest) = row.split_first()?;
    let value = match *size {
        NULL.. => return None,
        size => rest.get(..usize::from(size))?,
    };
    Some(String::from_utf8_lossy(value).into_owned())
}

/// What an error of the server's means; its text might quote what was sent.
fn failure(body: &[u8]) -> Failure {
    let code = body.get(1..).and_then(|rest| rest.first_chunk::<2>());
    let code = code.map_or(0, |code| u16::from_le_bytes(*code));
    match REFUSALS.contains(&code) {
        true => Failure::Refused,
        false => Failure::Broken(format!("MariaDB says {code}")),
    }
}

fn strange() -> Failure {
    Failure::broken("the server says what MariaDB does not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_its_scramble_in_two_parts() {
        let mut greeting = vec![10];
        greeting.extend(b"5.5.5-10.11\0");
        greeting.extend([1, 0, 0, 0]);
        greeting.extend(b"abcdefgh");
        greeting.extend([0; 19]);
        greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
        assert_eq!(
            scramble(&greeting).as_deref(),
            Some(&b"abcdefghijklmnopqrst"[..])
        );
        assert_eq!(scramble(b""), None);
        assert_eq!(scramble(&greeting[..40]), None);
    }

    #[test]
    fn a_proof_is_undone_by_what_the_server_keeps() {
        let scramble = b"abcdefghijklmnopqrst";
        let kept = sha1(&sha1(b"word"));
        let once = xor(
            proof(scramble, "word"),
            sha1(&[&scramble[..], &kept].concat()),
        );
        assert_eq!(sha1(&once), kept);
    }

    #[test]
    fn answers_are_read_and_errors_not_quoted() {
        assert_eq!(first_column(b"\x02ab\x01c").as_deref(), Some("ab"));
        assert_eq!(first_column(b"\xfb"), None);
        assert_eq!(failure(b"\xff\x15\x04#28000secret"), Failure::Refused);
        let other = failure(b"\xff\x28\x04secret").to_string();
        assert!(
            other.contains("1064") && !other.contains("secret"),
            "{other}"
        );
    }
}
