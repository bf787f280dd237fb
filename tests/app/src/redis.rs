//! Redis' protocol, version 2: AUTH with a user, and commands of words.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::login::Login;
use crate::place::Place;
use crate::session::{Failure, connect};

/// A longer answer is none to what is asked here.
const MAX_BYTES: usize = 1 << 20;

/// A connection that is signed in.
pub(crate) struct Redis(BufReader<TcpStream>);

impl Redis {
    pub(crate) fn open(place: &Place, login: &Login) -> Result<Self, Failure> {
        let mut session = Self(BufReader::new(connect(place.address)?));
        session.ask(&["AUTH", &login.user, &login.password])?;
        Ok(session)
    }

    /// Words between spaces.
    pub(crate) fn run(&mut self, command: &str) -> Result<String, Failure> {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.ask(&words)
    }

    pub(crate) fn close(mut self) {
        // It ends also when nobody listens any more.
        let _said = self.ask(&["QUIT"]);
    }

    fn ask(&mut self, words: &[&str]) -> Result<String, Failure> {
        self.0.get_mut().write_all(encoded(words).as_bytes())?;
        let line = self.line()?;
        let (mark, rest) = line.split_at_checked(1).ok_or_else(strange)?;
        match mark {
            "+" | ":" => Ok(rest.to_owned()),
            "-" => Err(failure(rest)),
            "$" if rest == "-1" => Ok(String::new()),
            "$" => {
                let size: Option<usize> = rest.parse().ok().filter(|size| *size <= MAX_BYTES);
                let mut bytes = vec![0; size.ok_or_else(strange)? + 2];
                self.0.read_exact(&mut bytes)?;
                let text = String::from_utf8_lossy(&bytes);
                Ok(text.trim_end_matches("\r\n").to_owned())
            }
            _ => Err(strange()),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let mut limited = self.0.by_ref().take(MAX_BYTES as u64);
        if limited.read_line(&mut line)? == 0 {
            return Err(Failure::Ended);
        }
        let line = line.strip_suffix("\r\n").ok_or_else(strange)?;
        Ok(line.to_owned())
    }
}

fn encoded(words: &[&str]) -> String {
    let begin = format!("*{}\r\n", words.len());
    let words = words.iter();
    words.fold(begin, |text, word| {
        text + &format!("${}\r\n{word}\r\n", word.len())
    })
}

/// What an error of the server's means; its text might quote what was sent.
fn failure(said: &str) -> Failure {
    let code = said.split(' ').next().unwrap_or_default();
    match code {
        "WRONGPASS" => Failure::Refused,
        code if code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            Failure::Broken(format!("Redis says {code}"))
        }
        _ => strange(),
    }
}

fn strange() -> Failure {
    Failure::broken("the server says what Redis does not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_counted_words() {
        assert_eq!(encoded(&["AUTH", "me"]), "*2\r\n$4\r\nAUTH\r\n$2\r\nme\r\n");
    }

    #[test]
    fn errors_are_sorted_by_their_word_and_not_quoted() {
        assert_eq!(failure("WRONGPASS invalid"), Failure::Refused);
        for said in ["NOPERM secret", "secret"] {
            let text = failure(said).to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
