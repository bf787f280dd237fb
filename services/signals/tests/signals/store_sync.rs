//! A store-sync that holds what a test gives it, or is away; and a bus on which nobody else is asked anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::id::SecretId;
use keywheel_core::time::Timestamp;
use keywheel_engine::comparison;
use keywheel_engine::port::bus::{
    Address, Body, Bus, Comparison, Held, Incoming, Message, Requests, Source, Subscription, Topic,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::{Presence, Seen};
use keywheel_seal::hpke::{Envelope, HostKeyPair};
use keywheel_seal::{OsEntropy, digest};
use tokio::sync::mpsc;

use crate::bench::{DEPLOYMENT, until};

/// How it answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It is away.
    #[default]
    Away,
    /// It compares.
    Compares,
    /// It takes what it is asked, and never answers.
    Hangs,
}

pub(crate) struct StoreSync {
    /// What keys are sealed to.
    own: HostKeyPair,
    pub(crate) mood: Mutex<Mood>,
    /// What it holds.
    pub(crate) values: Mutex<Vec<(SecretId, u64, String)>>,
    /// What it was asked.
    pub(crate) asked: Mutex<Vec<Comparison>>,
    /// Who listens to presence.
    ears: Mutex<Vec<mpsc::Sender<Incoming>>>,
    /// The last word of presence that somebody was done with.
    acked: Arc<AtomicU64>,
}

impl Default for StoreSync {
    fn default() -> Self {
        Self {
            own: HostKeyPair::generate(&OsEntropy),
            mood: Mutex::default(),
            values: Mutex::default(),
            asked: Mutex::default(),
            ears: Mutex::default(),
            acked: Arc::default(),
        }
    }
}

/// Hears who is there.
struct Ear {
    words: mpsc::Receiver<Incoming>,
    acked: Arc<AtomicU64>,
}

#[async_trait]
impl Subscription for Ear {
    async fn next(&mut self) -> Option<Incoming> {
        self.words.recv().await
    }

    async fn ack(&mut self, sequence: u64) -> Result<(), PortError> {
        self.acked.store(sequence, Ordering::SeqCst);
        Ok(())
    }

    async fn nak(&mut self, _: u64, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
}

fn presence(role: Role, leaving: bool) -> Presence {
    Presence {
        role,
        host: None,
        instance: [1; 16],
        machine: "m".to_owned(),
        version: "0".to_owned(),
        started: Timestamp::default(),
        sent: Timestamp::default(),
        leaving,
        certificate_end: None,
        bus: None,
        seen: Seen::default(),
    }
}

fn away() -> PortError {
    PortError::new(ErrorKind::Unavailable, "store-sync does not answer")
}

impl StoreSync {
    /// The key of a comparison, which nobody else can open.
    pub(crate) fn key_of(&self, asked: &Comparison) -> [u8; 32] {
        let envelope = Envelope::from_bytes(&asked.sealed_key).unwrap();
        let (info, aad) = (
            comparison::info(DEPLOYMENT),
            comparison::aad(&asked.digests),
        );
        let opened = self.own.open(&info, &aad, &envelope).unwrap();
        // EXPOSE: the key of a comparison in a test.
        opened.expose().try_into().unwrap()
    }

    pub(crate) fn is_listened_to(&self) -> bool {
        !self.ears.lock().unwrap().is_empty()
    }

    /// Somebody says that it is there, or leaves; returns when whoever listens has done what follows from it.
    pub(crate) async fn say(&self, role: Role, leaving: bool) {
        let ears = self.ears.lock().unwrap().clone();
        // Who is done with the second one did what follows from the first.
        for said in [presence(role, leaving), presence(Role::Gateway, false)] {
            let sequence = self.acked.load(Ordering::SeqCst) + 1;
            let message = Message {
                id: [9; 16],
                sender: said.role,
                host: None,
                traceparent: None,
                body: Body::Presence(Box::new(said)),
            };
            for ear in &ears {
                let incoming = Incoming {
                    sequence,
                    redelivered: false,
                    message: message.clone(),
                };
                ear.send(incoming).await.unwrap();
            }
            let is_done = || self.acked.load(Ordering::SeqCst) >= sequence;
            until("a word of presence to be heard", is_done).await;
        }
    }

    fn compare(&self, asked: &Comparison) -> Vec<Held> {
        let mut found = Vec::new();
        let key = self.key_of(asked);
        for (secret, version, value) in self.values.lock().unwrap().iter() {
            let own = digest::keyed(&key, value.as_bytes());
            let is_asked = asked.among.contains(&(*secret, *version));
            for (token, digest) in (0_u32..).zip(&asked.digests) {
                if is_asked && *digest == own {
                    found.push(Held {
                        token,
                        secret: *secret,
                        version: *version,
                    });
                }
            }
        }
        found
    }
}

#[async_trait]
impl Bus for StoreSync {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Err(away())
    }

    async fn subscribe(&self, topic: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        if topic != Topic::Presence {
            return Err(away());
        }
        let (ear, words) = mpsc::channel(8);
        self.ears.lock().unwrap().push(ear);
        let acked = Arc::clone(&self.acked);
        Ok(Box::new(Ear { words, acked }))
    }

    async fn request(
        &self,
        to: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        assert_eq!(to, Address::StoreSync);
        let mood = *self.mood.lock().unwrap();
        let asked = match body {
            Body::ReadStoreKey if mood == Mood::Away => return Err(away()),
            Body::ReadStoreKey => return Ok(Body::StoreKey(self.own.public().to_bytes())),
            Body::Compare(asked) => asked,
            other => panic!("nobody asks {other:?}"),
        };
        self.asked.lock().unwrap().push(asked.clone());
        match mood {
            Mood::Away => Err(away()),
            Mood::Compares => Ok(Body::Compared(self.compare(&asked))),
            Mood::Hangs => std::future::pending().await,
        }
    }

    fn refuse_stale(&self, _: Source) {}

    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(away())
    }
}
