//! A store-sync that holds what a test gives it, or is away; and a bus that has nobody else on it.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::id::SecretId;
use keywheel_engine::comparison;
use keywheel_engine::port::bus::{
    Address, Body, Bus, Comparison, Held, Requests, Source, Subscription, Topic,
};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::hpke::{Envelope, HostKeyPair};
use keywheel_seal::{OsEntropy, digest};

use crate::bench::DEPLOYMENT;

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
}

impl Default for StoreSync {
    fn default() -> Self {
        Self {
            own: HostKeyPair::generate(&OsEntropy),
            mood: Mutex::default(),
            values: Mutex::default(),
            asked: Mutex::default(),
        }
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

    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        Err(away())
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
