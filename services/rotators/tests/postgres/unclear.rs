//! A cut-over whose connection is cut after the server had the statement: with the change, and without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keywheel_core::effect::{AtResource, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::resource::{Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_engine::port::accounts::{Accounts as _, Login};
use keywheel_engine::port::rotator::{Probed, Rotator as _};
use keywheel_rotators::AccountRotator;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::fake::FakeVault;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::shop::{ADMIN, DATABASE, Shop};

const SECRET: SecretId = SecretId::from_bytes([1; 16]);

/// What lies between us and the server, and cuts one connection in place of an answer.
struct Between {
    port: u16,
    did_cut: Arc<AtomicBool>,
}

impl Between {
    /// The first answer that has these bytes is not passed on, and its connection ends.
    async fn before(server: String, answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let did_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&did_cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(client, server, answer, Arc::clone(&cut)));
            }
        });
        Self { port, did_cut }
    }

    fn did_cut(&self) -> bool {
        self.did_cut.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: TcpStream, answer: &[u8], did_cut: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let read = &buffer[..read];
            let is_it = read.windows(answer.len()).any(|part| part == answer);
            if read.is_empty() || (is_it && !did_cut.swap(true, Ordering::SeqCst)) {
                return;
            }
            if to_client.write_all(read).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = asks => {}
        () = answers => {}
    }
}

fn work(step: Step, version: u64, attempt: u32) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([u8::try_from(version).unwrap(); 16]),
        secret: SECRET,
        step,
        attempt,
        versions: vec![version],
        generator: Some(Generator::default()),
        provided: false,
        outside: None,
        resource: None,
        mark: None,
    }
}

fn rotator(
    shop: &Shop,
    (resource, vault): (&Resource, &Arc<FakeVault>),
    current: Option<u64>,
) -> AccountRotator {
    let plan = AtResource {
        resource: resource.clone(),
        admin: None,
        current,
        kept: Vec::new(),
        unclear: true,
    };
    let accounts = Arc::new(shop.of(resource));
    AccountRotator::new(accounts, plan, Arc::clone(vault) as _, Arc::new(OsEntropy))
}

async fn admits(shop: &Shop, resource: &Resource, password: &SecretBytes) -> bool {
    let hand = shop.of(resource);
    let admitted = hand.admits(&Login::of("app"), password, &plenty()).await;
    admitted.unwrap()
}

#[tokio::test]
async fn after_a_cut_the_account_is_asked_and_one_password_is_good_in_the_end() {
    let shop = Shop::open();
    let direct = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&direct);
    let vault = Arc::<FakeVault>::default();
    let first = rotator(&shop, (&direct, &vault), None);
    let until = plenty();
    first
        .create(&work(Step::Create, 1, 1), &until)
        .await
        .unwrap();
    first.set(&work(Step::Set, 1, 1), &until).await.unwrap();

    // The answer to the statement is lost, and with it the change; the answer to the commit alone.
    for (version, answer) in [(2, b"ALTER ROLE\0".as_slice()), (3, b"COMMIT\0".as_slice())] {
        let server = shop.server.place().replace("postgres://", "");
        let between = Between::before(server, answer).await;
        let through = Resource {
            connection: format!("postgres://{ADMIN}@127.0.0.1:{}/{DATABASE}", between.port),
            ..direct.clone()
        };
        let rotator = rotator(&shop, (&through, &vault), Some(version - 1));
        let until = plenty();
        let create = work(Step::Create, version, 1);
        rotator.create(&create, &until).await.unwrap();
        let set = work(Step::Set, version, 1);
        rotator.set(&set, &until).await.unwrap();
        assert!(between.did_cut(), "{version}: nothing was cut");
        let value = |version| SecretBytes::from(vault.value(SECRET, version).unwrap());
        assert!(admits(&shop, &direct, &value(version)).await, "{version}");
        assert!(!admits(&shop, &direct, &value(version - 1)).await);
        let again = work(Step::Set, version, 2);
        let probed = rotator.probe(&again, &until).await.unwrap();
        assert_eq!(probed, Probed::Done(None), "{version}");
    }

    // Somebody gave the account another password meanwhile.
    let third = rotator(&shop, (&direct, &vault), Some(3));
    third
        .create(&work(Step::Create, 4, 1), &until)
        .await
        .unwrap();
    let _done = shop.psql("ALTER ROLE app PASSWORD 'by-hand'");
    let error = third.probe(&work(Step::Set, 4, 2), &until).await;
    let error = error.unwrap_err();
    assert!(error.text.contains("neither"), "{error}");
    assert!(shop.server.signs_in(DATABASE, "app", "by-hand"));
}
