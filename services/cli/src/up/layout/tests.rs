//! Where an unseal key may lie: nowhere inside what it opens, by whatever way it is named.

use std::os::unix::fs::symlink;

use super::*;

/// A data directory, a link to it, and a place beside it.
struct Places {
    root: tempfile::TempDir,
}

impl Places {
    fn make() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        symlink("data", root.path().join("link")).unwrap();
        Self { root }
    }
    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
    /// Asks for a key there, by the directory's own name and by its link.
    fn refused(&self, key: &Path) -> bool {
        let refused = |data: &str| {
            let asked = unseal_key(key, &self.at(data));
            asked.is_err_and(|error| error.to_string().contains("inside the data directory"))
        };
        let by_name = refused("data");
        assert_eq!(by_name, refused("link"), "{}", key.display());
        by_name
    }
}

#[test]
fn a_key_inside_the_data_directory_is_refused_by_whatever_way_it_is_named() {
    let places = Places::make();
    symlink("data/kept", places.at("dangling")).unwrap();
    symlink("nowhere/../data", places.at("roundabout")).unwrap();
    let inside = [
        "data/key",
        "link/key",
        "data/new/key",
        "link/new/deeper/key",
        "new/../data/key",
        "data/../link/new/../key",
        "dangling",
        "roundabout/new/key",
    ];
    for key in inside {
        assert!(places.refused(&places.at(key)), "{key}");
    }
    let left: Vec<_> = fs::read_dir(places.at("data")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_key_that_is_a_link_into_the_data_directory_is_refused() {
    let places = Places::make();
    let kept = places.at("data/kept");
    fs::write(&kept, "0".repeat(64)).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&kept, places.at("key")).unwrap();
    symlink("key", places.at("key-of-key")).unwrap();
    assert!(places.refused(&places.at("key")));
    assert!(places.refused(&places.at("key-of-key")));
}

#[test]
fn a_key_beside_the_data_directory_is_made_and_read_again() {
    let places = Places::make();
    let key = places.at("data/../keys/new/unseal.key");
    assert!(!places.refused(&key));
    assert!(places.at("keys/new/unseal.key").is_file());
    // A name that only begins like the directory's.
    assert!(!places.refused(&places.at("data-key")));
}

#[test]
fn links_that_lead_in_a_circle_are_no_place() {
    let places = Places::make();
    symlink("circle", places.at("circle")).unwrap();
    assert!(unseal_key(&places.at("circle/key"), &places.at("data")).is_err());
}

#[test]
fn only_a_credential_of_the_service_manager_may_show_a_group() {
    let path = Path::new("/run/credentials/keywheel-gateway.service/unseal.key");
    let directory = Some("/run/credentials/keywheel-gateway.service");
    assert_eq!(others(path, directory), 0o037);
    assert_eq!(others(path, None), 0o077);
    let elsewhere = Path::new("/etc/keywheel/unseal.key");
    assert_eq!(others(elsewhere, directory), 0o077);
}

#[test]
fn a_lock_that_is_a_link_or_a_pipe_is_refused_and_what_it_leads_to_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (scratch.path().join("data"), scratch.path().join("ours"));
    fs::create_dir(&data).unwrap();
    fs::write(&elsewhere, "kept").unwrap();
    for is_hard in [false, true] {
        match is_hard {
            false => symlink(&elsewhere, data.join(LOCK)).unwrap(),
            true => fs::hard_link(&elsewhere, data.join(LOCK)).unwrap(),
        }
        assert!(lock(&data).is_err());
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
        fs::remove_file(data.join(LOCK)).unwrap();
    }
    symlink(scratch.path().join("nowhere"), data.join(LOCK)).unwrap();
    assert!(lock(&data).is_err());
    assert!(
        !scratch.path().join("nowhere").exists(),
        "nothing is made there"
    );
    fs::remove_file(data.join(LOCK)).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, data.join(LOCK), mode).unwrap();
    assert!(lock(&data).is_err());
    fs::remove_file(data.join(LOCK)).unwrap();
    let held = lock(&data).unwrap();
    assert!(lock(&data).is_err(), "it is held");
    drop(held);
    assert!(lock(&data).is_ok());
}
