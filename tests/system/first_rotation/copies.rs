//! What the engine copies out of a container that holds a value: `cp`, and an image by `commit`.
//! `inspect`, `export`, `diff` and the engine's own files are searched at the end of every test.

use anyhow::Result;
use keywheel_tests::canary::Canary;
use keywheel_tests::docker::{self, docker};
use keywheel_tests::stage::{FILE, Stage};

#[test]
fn neither_cp_nor_commit_takes_a_value_out_of_a_container() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("copied", "none")?;
    let container = stage.run("copied", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    let canary = Canary::new(&[value.clone().into_bytes()])?;
    let mut said = Vec::new();
    for path in [FILE, "/run/secrets", "/run"] {
        said.push(docker(&["cp", &format!("{}:{path}", container.id()), "-"])?);
    }
    let image = docker(&["commit", container.id()])?.ok()?;
    let image = image.stdout.trim();
    said.push(docker(&["save", image])?);
    let read = ["run", "--rm", "--network", "none", image, "cat", FILE];
    said.push(docker(&read)?);
    docker(&["image", "rm", "-f", image])?.ok()?;
    for output in said {
        let hits = canary.search(&output.line, output.said().as_bytes());
        assert!(hits.is_empty(), "{hits:?}");
    }
    stage.finish(&[value], &[&container])
}
