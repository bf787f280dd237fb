//! A mail server that takes what is submitted, and refuses it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use keywheel_core::notification::Receiver;
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::outside::Outside as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::{Bench, until};

struct Mail {
    at: SocketAddr,
    /// What came after `DATA`, each.
    got: Arc<Mutex<Vec<String>>>,
    /// What it answers to a message.
    answer: Arc<Mutex<&'static str>>,
}

impl Mail {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mail = Self {
            at: listener.local_addr().unwrap(),
            got: Arc::default(),
            answer: Arc::new(Mutex::new("250 taken")),
        };
        let (got, answer) = (Arc::clone(&mail.got), Arc::clone(&mail.answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&got), Arc::clone(&answer)));
            }
        });
        mail
    }

    fn receiver(&self, credentials_file: String) -> Receiver {
        Receiver::Email {
            url: format!("smtp://{}", self.at),
            from: "keywheel@example.org".to_owned(),
            to: "ops@example.org".to_owned(),
            credentials_file,
            ca_file: String::new(),
        }
    }

    fn ids(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        let id = |mail: &String| {
            let line = mail.lines().find(|line| line.starts_with("Message-ID: "));
            line.unwrap().to_owned()
        };
        got.iter().map(id).collect()
    }
}

async fn serve(
    stream: TcpStream,
    got: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<&'static str>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let reply = match line.split(' ').next().unwrap_or_default().trim() {
            "EHLO" => "250-mail\r\n250 AUTH PLAIN",
            "AUTH" => "235 come in",
            "DATA" => "354 go on",
            "QUIT" => return Ok(()),
            _ => "250 well",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        if line.starts_with("DATA") {
            let mut mail = String::new();
            while !mail.ends_with("\r\n.\r\n") {
                if stream.read_line(&mut mail).await? == 0 {
                    return Ok(());
                }
            }
            let said = *answer.lock().unwrap();
            got.lock().unwrap().push(mail);
            stream.write_all(format!("{said}\r\n").as_bytes()).await?;
        }
    }
}

#[tokio::test]
async fn a_mailbox_is_told_under_the_same_id_and_what_its_server_refuses_is_a_letter() {
    let mail = Mail::start().await;
    let bench = Bench::start(&[mail.at]).await;
    bench.write_key("login", "keywheel\na-password-of-this-test\n");
    let receiver = mail.receiver(bench.key_path("login"));
    *mail.answer.lock().unwrap() = "451 later";
    let id = bench.declare("ops", receiver, "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("code 451"), "{reason}");
    *mail.answer.lock().unwrap() = "250 taken";
    desk.call();
    bench.until_place(id, Some(2)).await;
    let ids = mail.ids();
    let event = bench.events(1).await[0].id.to_string();
    assert!(
        ids.len() >= 2 && ids.iter().all(|id| id.contains(&event)),
        "{ids:?}"
    );
    *mail.answer.lock().unwrap() = "554 no";
    bench.happen("prod/b").await;
    bench.until_place(id, Some(3)).await;
    let letters = bench.journal.letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("code 554"), "{letters:?}");
}

#[tokio::test]
async fn a_login_that_is_none_is_waited_for_and_never_quoted() {
    let mail = Mail::start().await;
    let bench = Bench::start(&[mail.at]).await;
    bench.write_key("login", "canary-without-a-name");
    let receiver = mail.receiver(bench.key_path("login"));
    let id = bench.declare("ops", receiver, "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("password on its second"), "{reason}");
    assert!(!reason.contains("canary"), "{reason}");
    bench.write_key("login", "keywheel\na-password-of-this-test\n");
    desk.call();
    bench.until_place(id, Some(2)).await;
    assert_eq!(mail.ids().len(), 1);
}

#[tokio::test]
async fn a_mail_server_of_this_machine_is_asked_only_where_that_was_allowed() {
    let mail = Mail::start().await;
    let bench = Bench::start(&[]).await;
    let id = bench.declare("ops", mail.receiver(String::new()), "").await;
    let desk = bench.desk();
    let _running = bench.notify(&desk);
    bench.happen("prod/a").await;
    until("the trouble", || desk.troubles().contains_key(&id)).await;
    let reason = desk.troubles()[&id].reason.clone();
    assert!(reason.contains("`signals.allow`"), "{reason}");
    assert!(mail.got.lock().unwrap().is_empty());
}
