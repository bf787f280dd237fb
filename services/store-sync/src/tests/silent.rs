//! A store that takes what it is asked and never answers, at a real socket.

use std::os::unix::fs::OpenOptionsExt as _;

use keywheel_core::name::StoreName;
use keywheel_core::store::{
    Backend, CredentialRef, NamedStore, OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_stores::Connector;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

/// Longer than this test waits for anything: not what ends a call here.
const NEVER: Duration = Duration::from_secs(600);
/// Of the effect; the steps before the call take less.
const DEADLINE: Duration = Duration::from_secs(12);

/// A Vault at this address, with a token in a file.
fn vault(directory: &std::path::Path, port: u16) -> NamedStore {
    use std::io::Write as _;
    let path = directory.join("token");
    let mut file = std::fs::File::options();
    let file = file.create_new(true).write(true).mode(0o600).open(&path);
    file.unwrap().write_all(b"a-token").unwrap();
    let token = CredentialRef::File(path.display().to_string());
    NamedStore {
        name: StoreName::parse("silent").unwrap(),
        spec: StoreSpec {
            backend: Backend::Vault(VaultSpec {
                address: format!("http://127.0.0.1:{port}"),
                namespace: String::new(),
                mount: "kv".to_owned(),
                ca_file: String::new(),
                old_versions: OldVersions::Destroy,
                auth: VaultAuth::Token { token },
            }),
            poll: NEVER,
            timeout: NEVER,
        },
    }
}

#[tokio::test]
async fn at_the_deadline_of_an_effect_the_connection_of_its_call_ends_and_nothing_is_told() {
    let mut world = World::new().await;
    world.connect = Some(Arc::new(Connector::new(
        world.clock.clone(),
        Arc::new(OsEntropy),
    )));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = vault(world.directory.path(), port);
    let options = StoreSyncOptions {
        step_deadline: NEVER,
        ..StoreSyncOptions::new(DEPLOYMENT, world.directory.path().into())
    };
    let (_shutdown, _task) = world.start_with(options);
    world.send(Work::Step(step(Step::Create, 1))).await;
    assert_eq!(failure(&world.outcome().await), None);

    let outside = Outside {
        store,
        source: Source {
            path: "db".to_owned(),
            field: "password".to_owned(),
        },
        known: Some(RemoteVersion("1".to_owned())),
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    };
    let finish = Work::Step(StepWork {
        outside: Some(Box::new(outside)),
        ..step(Step::Finish, 1)
    });
    let deadline = world.clock.now().plus(DEADLINE);
    world.send_until(finish, deadline).await;
    let asked = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        // Ends with the client's end only.
        client.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let heard = tokio::time::timeout(SOON, asked).await;
    let heard = heard.expect("the connection ends, and not by the store's timeout");
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains(" /v1/"), "a call was under way: {heard}");
    assert!(world.clock.now() >= deadline, "not before the deadline");
    world.assert_no_outcome(Duration::from_millis(200)).await;
    let again = tokio::time::timeout(Duration::from_millis(200), listener.accept());
    assert!(again.await.is_err(), "and no call is begun after it");
}
