//! The file sink on a real directory: rotation, crashes, and hands that meddle.

use keywheel_schemas::config::sinks::SinkFormat;

use super::super::line::tests::{leaf, lines};
use super::*;

const BIG: u64 = 1 << 30;

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    fn sink(&self, max_bytes: u64, keep: u32) -> Lines {
        Lines::new(self.path(), max_bytes, keep)
    }

    /// Every file in the order of its records.
    fn files(&self) -> Vec<PathBuf> {
        let mut all: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != self.path())
            .collect();
        all.sort();
        all.push(self.path());
        all
    }

    fn numbers(&self) -> Vec<u64> {
        let text: String = self
            .files()
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        let number = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["sequence"].as_u64().unwrap()
        };
        text.lines().map(number).collect()
    }
}

async fn next(sink: &mut Lines) -> u64 {
    sink.known().await.unwrap().unwrap().next
}

#[tokio::test]
async fn lines_are_appended_and_the_file_says_where_it_ends() {
    let world = World::new();
    let mut sink = world.sink(BIG, 0);
    assert_eq!(next(&mut sink).await, 0);
    sink.tell(&lines(0, 3)).await.unwrap();
    sink.tell(&lines(3, 2)).await.unwrap();
    let mut again = world.sink(BIG, 0);
    let known = again.known().await.unwrap().unwrap();
    assert_eq!(known.next, 5);
    let leaf = known
        .leaf
        .map(|leaf| super::super::line::hexadecimal(&leaf));
    assert_eq!(leaf, Some(lines(4, 1)[0].leaf.clone()));
    assert_eq!(world.numbers(), [0, 1, 2, 3, 4]);
    let mode = fs::metadata(world.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_was_there_for_others_is_its_owners_alone_and_what_is_no_file_is_refused() {
    let world = World::new();
    fs::write(world.path(), "").unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let mut sink = world.sink(BIG, 0);
    assert_eq!(next(&mut sink).await, 0);
    let mode = fs::metadata(world.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut nowhere = Lines::new("/dev/null".into(), BIG, 0);
    assert!(nowhere.known().await.is_err(), "nothing is kept there");
}

#[tokio::test]
async fn what_may_be_a_file_of_somebody_s_is_not_shut() {
    let world = World::new();
    let mode = || fs::metadata(world.path()).unwrap().mode() & 0o777;
    let open_to_all = fs::Permissions::from_mode(0o644);
    fs::write(world.path(), "127.0.0.1 localhost\n").unwrap();
    fs::set_permissions(world.path(), open_to_all).unwrap();
    assert!(world.sink(BIG, 0).known().await.is_err());
    assert_eq!(mode(), 0o644, "it holds something else");
    fs::write(world.path(), "").unwrap();
    let elsewhere = world.directory.path().join("elsewhere");
    fs::hard_link(world.path(), &elsewhere).unwrap();
    let refused = world.sink(BIG, 0).known().await.unwrap_err();
    let refused = keywheel_daemon::chain(&refused);
    assert!(refused.contains("another name"), "{refused}");
    assert_eq!(mode(), 0o644, "it has another name");
    fs::remove_file(elsewhere).unwrap();
    assert_eq!(next(&mut world.sink(BIG, 0)).await, 0);
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_file_that_is_not_ours_to_shut_is_told_with_its_owner_and_what_to_do() {
    let world = World::new();
    fs::write(world.path(), "").unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o660)).unwrap();
    let there = fs::metadata(world.path()).unwrap();
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let told = open_to_others(&there, &denied);
    let owner = format!("uid {}", there.uid());
    for part in ["mode 0660", &owner, "mode 0600"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[tokio::test]
async fn a_record_that_is_not_next_is_not_written() {
    let world = World::new();
    let mut sink = world.sink(BIG, 0);
    next(&mut sink).await;
    assert!(sink.tell(&lines(1, 1)).await.is_err());
    sink.reset();
    assert_eq!(next(&mut sink).await, 0);
    sink.tell(&lines(0, 1)).await.unwrap();
    assert!(sink.tell(&lines(0, 1)).await.is_err());
    assert_eq!(world.numbers(), [0]);
}

#[tokio::test]
async fn a_full_file_is_put_aside_under_the_number_of_its_first_record() {
    let world = World::new();
    let line = lines(0, 1)[0].text.len() as u64 + 1;
    let mut sink = world.sink(line * 3 + 10, 0);
    next(&mut sink).await;
    sink.tell(&lines(0, 10)).await.unwrap();
    let names: Vec<String> = world
        .files()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let wanted = [
        "audit.jsonl.00000000000000000000",
        "audit.jsonl.00000000000000000003",
        "audit.jsonl.00000000000000000006",
        "audit.jsonl",
    ];
    assert_eq!(names, wanted);
    assert_eq!(world.numbers(), (0..10).collect::<Vec<_>>());
    // Begun anew between two files, and right behind one that was put aside.
    let mut again = world.sink(line * 3 + 10, 0);
    assert_eq!(next(&mut again).await, 10);
    fs::remove_file(world.path()).unwrap();
    assert_eq!(next(&mut again).await, 9);
    again.tell(&lines(9, 3)).await.unwrap();
    assert_eq!(world.numbers(), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_line_longer_than_the_limit_has_a_file_of_its_own() {
    let world = World::new();
    let mut sink = world.sink(1, 0);
    next(&mut sink).await;
    sink.tell(&lines(0, 3)).await.unwrap();
    assert_eq!(world.files().len(), 3);
    assert_eq!(world.numbers(), [0, 1, 2]);
}

#[tokio::test]
async fn as_many_are_kept_as_was_said() {
    let world = World::new();
    let mut sink = world.sink(1, 2);
    next(&mut sink).await;
    sink.tell(&lines(0, 6)).await.unwrap();
    assert_eq!(world.numbers(), [3, 4, 5]);
    let other = world.directory.path().join("audit.jsonl.notes");
    fs::write(&other, "").unwrap();
    sink.tell(&lines(6, 3)).await.unwrap();
    assert!(other.exists(), "what is not ours stays");
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_taken_off() {
    let world = World::new();
    let mut sink = world.sink(BIG, 0);
    next(&mut sink).await;
    sink.tell(&lines(0, 2)).await.unwrap();
    let whole = fs::read(world.path()).unwrap();
    // Cut anywhere, the file goes on at the first record that is not whole.
    for length in 0..=whole.len() {
        fs::write(world.path(), &whole[..length]).unwrap();
        let mut again = world.sink(BIG, 0);
        let at = next(&mut again).await;
        let lines_left = whole[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        assert_eq!(at, lines_left as u64, "cut at {length}");
        again.tell(&lines(at, 3 - at)).await.unwrap();
        assert_eq!(world.numbers(), [0, 1, 2], "cut at {length}");
    }
}

#[tokio::test]
async fn what_has_no_whole_line_is_half_a_line_of_ours_or_is_left_as_it_is() {
    let world = World::new();
    for format in [SinkFormat::Native, SinkFormat::Ocsf] {
        let line = Line::of(format, &leaf(0)).text;
        for length in 0..=line.len() {
            fs::write(world.path(), &line[..length]).unwrap();
            assert_eq!(next(&mut world.sink(BIG, 0)).await, 0, "cut at {length}");
            assert_eq!(fs::read(world.path()).unwrap(), b"", "cut at {length}");
        }
    }
    fs::write(world.path(), [0; 4096]).unwrap();
    assert_eq!(next(&mut world.sink(BIG, 0)).await, 0, "zeros of a crash");
    for foreign in ["a token", r#"{"seed":"of a service"}"#] {
        fs::write(world.path(), foreign).unwrap();
        let refused = world.sink(BIG, 0).known().await.unwrap_err();
        let refused = keywheel_daemon::chain(&refused);
        assert!(refused.contains("no record"), "{refused}");
        assert_eq!(fs::read_to_string(world.path()).unwrap(), foreign);
    }
}

#[tokio::test]
async fn a_file_that_somebody_removed_cut_or_wrote_to_is_noticed_and_filled_again() {
    for meddle in [
        (|path| fs::remove_file(path).unwrap()) as fn(&Path),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let aside = path.with_extension("old");
            fs::rename(path, &aside).unwrap();
            fs::copy(&aside, path).unwrap();
            fs::remove_file(aside).unwrap();
        },
    ] {
        let world = World::new();
        let mut sink = world.sink(BIG, 0);
        next(&mut sink).await;
        sink.tell(&lines(0, 3)).await.unwrap();
        meddle(&world.path());
        let told = sink.tell(&lines(3, 1)).await.unwrap_err();
        let told = keywheel_daemon::chain(&told);
        assert!(told.contains("written again"), "{told}");
        sink.reset();
        let at = next(&mut sink).await;
        sink.tell(&lines(at, 4 - at)).await.unwrap();
        assert_eq!(world.numbers(), [0, 1, 2, 3]);
    }
}

#[tokio::test]
async fn a_file_of_something_else_and_a_link_are_refused() {
    let world = World::new();
    fs::write(world.path(), "not a record\n").unwrap();
    let mut sink = world.sink(BIG, 0);
    let refused = keywheel_daemon::chain(&sink.known().await.unwrap_err());
    assert!(refused.contains("no record"), "{refused}");
    let kept = fs::read_to_string(world.path()).unwrap();
    assert_eq!(kept, "not a record\n", "it is left as it is");
    let elsewhere = world.directory.path().join("elsewhere");
    fs::rename(world.path(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, world.path()).unwrap();
    assert!(sink.known().await.is_err());
    let nowhere = world.directory.path().join("no/such/audit.jsonl");
    assert!(Lines::new(nowhere, BIG, 0).known().await.is_err());
}

#[tokio::test]
async fn a_file_begins_where_the_copy_does_and_has_no_gap_behind_it() {
    let world = World::new();
    let begins: Arc<AtomicU64> = Arc::default();
    let mut sink = world.sink(BIG, 0).beginning(begins.clone());
    assert_eq!(next(&mut sink).await, 0);
    // The copy comes to know it after the file was opened: then it is opened again.
    begins.store(512, Ordering::Relaxed);
    assert!(sink.tell(&lines(512, 3)).await.is_err());
    sink.reset();
    assert_eq!(next(&mut sink).await, 512);
    sink.tell(&lines(512, 3)).await.unwrap();
    assert!(sink.tell(&lines(516, 1)).await.is_err(), "515 is next");
    let mut again = world.sink(BIG, 0);
    assert_eq!(next(&mut again).await, 515);
    again.tell(&lines(515, 1)).await.unwrap();
    assert_eq!(world.numbers(), [512, 513, 514, 515]);
}
