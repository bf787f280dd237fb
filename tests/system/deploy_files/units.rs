//! systemd's units, as systemd's own tool reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_sys::locked::ADVISED_LIMIT_BYTES;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::{self, Scratch};

/// Programs that units start.
const PROGRAMS: [&str; 3] = ["keywheel", "keywheel-injector", "nats-server"];
/// Most exposure that is let through, in tenths of what `systemd-analyze security` says: 0 is nothing, 100
/// is a service without any limit.
const SERVICE_EXPOSURE: &str = "20";
/// The injector enters containers, and says in its unit what that costs.
const INJECTOR_EXPOSURE: &str = "65";

/// The tool: of the system, or where `tests/run.sh` unpacked it.
#[expect(clippy::disallowed_methods, reason = "where the installer put it")]
fn analyze() -> Result<Command> {
    let name = "systemd-analyze";
    if Command::new(name).arg("--version").output().is_ok() {
        return Ok(Command::new(name));
    }
    let home = std::env::var("HOME").context("HOME is not set")?;
    let kept = Path::new(&home).join(".cache/keywheel/systemd");
    let program = kept.join("usr/bin/systemd-analyze");
    ensure!(
        program.exists(),
        "systemd-analyze is missing: ./tests/run.sh unpacks it"
    );
    let machine = std::env::consts::ARCH;
    let libraries =
        ["usr/lib", "lib"].map(|place| kept.join(place).join(format!("{machine}-linux-gnu")));
    let private = libraries.iter().map(|place| place.join("systemd"));
    let all: Vec<String> = libraries
        .iter()
        .cloned()
        .chain(private)
        .map(|p| p.display().to_string())
        .collect();
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", all.join(":"));
    command.env(
        "SYSTEMD_UNIT_PATH",
        format!(":{}", kept.join("lib/systemd/system").display()),
    );
    Ok(command)
}

/// The units with programs that are there.
fn stubbed(scratch: &Scratch) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(scratch.join("bin"))?;
    for program in PROGRAMS {
        let stub = scratch.write(&format!("bin/{program}"), "#!/bin/sh\n")?;
        fs::set_permissions(stub, fs::Permissions::from_mode(0o755))?;
    }
    let bin = format!("{}/", scratch.join("bin").display());
    let mut units = Vec::new();
    for entry in fs::read_dir(scratch::root().join("deploy/systemd"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !name.ends_with(".service") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains("ExecStart=/usr/local/bin/"), "{name}");
        // A template is judged as one of its instances.
        let name = name.replace("@.", "@bus-1.");
        units.push(scratch.write(&name, text.replace("/usr/local/bin/", &bin))?);
    }
    units.sort();
    Ok(units)
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() -> Result<()> {
    let scratch = Scratch::make()?;
    let units = stubbed(&scratch)?;
    ensure!(units.len() == 6, "{units:?}");
    let said = Output::of(analyze()?.args(["verify", "--man=no"]).args(&units))?.ok()?;
    // It says what it ignores and succeeds; what it says of its own units is not ours.
    let ours = scratch.path().display().to_string();
    let found: Vec<_> = said
        .stderr
        .lines()
        .filter(|line| line.contains(&ours))
        .collect();
    ensure!(found.is_empty(), "{found:#?}");
    for unit in &units {
        let is_injector = unit.ends_with("keywheel-injector.service");
        let most = if is_injector {
            INJECTOR_EXPOSURE
        } else {
            SERVICE_EXPOSURE
        };
        let mut judge = analyze()?;
        judge.args(["security", "--no-pager", "--offline=true"]);
        let said = Output::of(judge.arg(format!("--threshold={most}")).arg(unit))?.ok()?;
        eprintln!("{}", said.stdout.lines().last().unwrap_or_default());
    }
    Ok(())
}

#[test]
fn a_mistake_in_a_unit_is_found() -> Result<()> {
    let scratch = Scratch::make()?;
    let units = stubbed(&scratch)?;
    let first = units.first().context("no unit")?;
    let text = fs::read_to_string(first)?;
    fs::write(
        first,
        text.replace("ProtectSystem=strict", "ProtectSystem=strickt"),
    )?;
    let said = Output::of(analyze()?.args(["verify", "--man=no"]).arg(first))?;
    ensure!(said.stderr.contains("strickt"), "{said:?}");
    Ok(())
}

#[test]
fn every_role_has_a_unit_and_a_user_of_its_own() -> Result<()> {
    let folder = scratch::root().join("deploy/systemd");
    let users = fs::read_to_string(folder.join("keywheel.sysusers"))?;
    for role in ["gateway", "store-sync", "scheduler", "audit-sink", "bus@"] {
        let text = fs::read_to_string(folder.join(format!("keywheel-{role}.service")))?;
        let user = format!("keywheel-{}", role.trim_end_matches('@'));
        ensure!(text.contains(&format!("User={user}\n")), "{role}");
        ensure!(users.contains(&format!("u {user} ")), "{role}");
    }
    Ok(())
}

/// What systemd is told for every service of ours, since keys and values are in its memory.
#[test]
fn no_unit_leaves_a_core_or_goes_to_the_swap() -> Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir(scratch::root().join("deploy/systemd"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "service") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for word in ["MemorySwapMax=0", "LimitCORE=0"] {
            let says = text.lines().any(|line| line == word);
            ensure!(says, "{} lacks {word}", path.display());
        }
        seen += 1;
    }
    ensure!(seen == 6, "{seen} units");
    Ok(())
}

/// As much as the product advises, and the call for memory that only its process reads; in Compose what engines have.
#[test]
fn every_service_of_ours_may_lock_the_memory_of_its_keys_and_values() -> Result<()> {
    let folder = scratch::root().join("deploy");
    for role in [
        "gateway",
        "store-sync",
        "scheduler",
        "audit-sink",
        "injector",
    ] {
        let unit = folder.join(format!("systemd/keywheel-{role}.service"));
        let text = fs::read_to_string(unit)?;
        let limit = format!("LimitMEMLOCK={}M", ADVISED_LIMIT_BYTES >> 20);
        ensure!(text.lines().any(|line| line == limit), "{role}");
        let calls = text
            .lines()
            .find(|line| line.starts_with("SystemCallFilter=@"));
        let may = calls.is_some_and(|calls| calls.split(' ').any(|call| call == "memfd_secret"));
        ensure!(may, "{role}: {calls:?}");
    }
    let compose = fs::read_to_string(folder.join("compose.yaml"))?;
    let service = compose.split("x-service:").nth(1).context("no service")?;
    let service = service.split("\n\n").next().unwrap_or_default();
    let limit = "ulimits: { memlock: \"${MEMLOCK_BYTES:-8388608}\" }";
    ensure!(service.contains(limit), "{service}");
    ensure!(
        service.contains(&ADVISED_LIMIT_BYTES.to_string()),
        "{service}"
    );
    Ok(())
}
