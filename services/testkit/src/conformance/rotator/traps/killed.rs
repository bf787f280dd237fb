//! One step that a program of its own performs, which is killed at a failpoint: the test starts itself once
//! more, and tells that program by a variable what to do.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use keywheel_core::effect::{Outside as Lies, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::rotation::Step;
use keywheel_core::store::RemoteVersion;
use keywheel_engine::port::rotator::Rotator;

use super::once;
use crate::fake::{Child, Trap};

/// Set for the program: its order.
const ORDER: &str = "KEYWHEEL_TEST_ORDER";
/// What a kill ends a program with.
const KILLED: i32 = 9;
const STEPS: [Step; 7] = [
    Step::Create,
    Step::Set,
    Step::Test,
    Step::Finish,
    Step::RevokeOld,
    Step::RollBack,
    Step::Drain,
];

/// What such a program is to do.
pub struct Order {
    /// Where it is killed.
    pub at: &'static str,
    step: Step,
    is_revocation: bool,
    /// The version that the step is about.
    pub version: u64,
    rotation: RotationId,
    secret: SecretId,
    known: Option<RemoteVersion>,
    retire: Vec<RemoteVersion>,
    /// What the test told besides.
    pub words: Vec<String>,
}

impl Order {
    /// Whether the step ends a version.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.step, Step::RevokeOld | Step::RollBack)
    }

    /// The step, for a rotator of accounts or of a receiver; outside it is at `place`, over the version that
    /// was known there.
    #[must_use]
    pub fn work(&self, place: Option<Lies>) -> StepWork {
        let outside = place.map(|place| Lies {
            known: self.known.clone(),
            retire: self.retire.clone(),
            ..place
        });
        StepWork {
            rotation: self.rotation,
            secret: self.secret,
            step: self.step,
            attempt: 1,
            versions: vec![self.version],
            generator: Some(keywheel_core::secret::Generator::default()),
            provided: false,
            outside: outside.map(Box::new),
            resource: None,
            mark: None,
        }
    }

    /// Performs it, and dies of it, or not.
    ///
    /// # Panics
    /// When the step fails.
    pub async fn perform(&self, rotator: &dyn Rotator, place: Option<Lies>) {
        let work = self.work(place);
        let done = once(rotator, &work, false, self.is_revocation).await;
        done.unwrap_or_else(|error| panic!("{:?}: {error}: {:?}", self.step, error.source));
    }
}

/// What this program is to do, if it is one that was started to be killed at one of these points.
///
/// # Panics
/// When the order is none.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own variable, and no service's"
)]
pub fn order(points: &[&'static str]) -> Option<Order> {
    let text = std::env::var_os(ORDER)?.into_string().unwrap();
    // Also a last word without a letter is one.
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let named = line();
    let at = points.iter().find(|point| **point == named);
    let step: usize = line().parse().unwrap();
    let is_revocation = line().parse().unwrap();
    let version = line().parse().unwrap();
    let rotation = RotationId::parse(line()).unwrap();
    let secret = SecretId::parse(line()).unwrap();
    let known = remotes(line()).pop();
    let retire = remotes(line());
    Some(Order {
        at: at.expect("it is a failpoint"),
        step: STEPS[step],
        is_revocation,
        version,
        rotation,
        secret,
        known,
        retire,
        words: lines.map(str::to_owned).collect(),
    })
}

/// Versions at a store, with a space after each.
fn remotes(line: &str) -> Vec<RemoteVersion> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    words.map(|word| RemoteVersion(word.to_owned())).collect()
}

fn text(trap: &Trap, child: &Child, work: &StepWork, is_revocation: bool) -> String {
    let step = STEPS.iter().position(|step| *step == work.step);
    let outside = work.outside.as_deref();
    let known = outside.and_then(|outside| outside.known.as_ref());
    let retire = outside.map_or(&[][..], |outside| outside.retire.as_slice());
    let retire: Vec<&str> = retire.iter().map(|version| version.0.as_str()).collect();
    let mut lines = vec![
        trap.at().to_owned(),
        step.expect("every step is listed").to_string(),
        is_revocation.to_string(),
        work.versions[0].to_string(),
        work.rotation.to_string(),
        work.secret.to_string(),
        known.map_or_else(String::new, |known| known.0.clone()),
        retire.join(" "),
    ];
    lines.extend(child.words.iter().cloned());
    lines.join("\n")
}

/// Has the program perform the step; whether it was killed.
///
/// # Panics
/// When it ended otherwise than by success or by the kill.
pub(super) async fn is_killed(
    trap: &Trap,
    child: &Child,
    work: &StepWork,
    is_revocation: bool,
) -> bool {
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap());
    let program = program
        .args(["--exact", child.test, "--nocapture"])
        .env(ORDER, text(trap, child, work, is_revocation))
        .stdin(Stdio::null());
    let ended = program.output().await.unwrap();
    if ended.status.signal() == Some(KILLED) {
        return true;
    }
    let said = [ended.stdout, ended.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ended.status.success(), "{trap}: {said}");
    assert!(said.contains("1 passed"), "no test {}: {said}", child.test);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::TrapFault;

    #[test]
    fn an_order_tells_the_step_and_what_else_there_is_to_know() {
        let trap = Trap::new("here", TrapFault::Kill, 1);
        let child = Child {
            test: "nobody",
            words: ["one", "two words", ""].map(str::to_owned).to_vec(),
        };
        let order = Order {
            at: "here",
            step: Step::Finish,
            is_revocation: false,
            version: 7,
            rotation: RotationId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([2; 16]),
            known: None,
            retire: Vec::new(),
            words: Vec::new(),
        };
        let text = text(&trap, &child, &order.work(None), false);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines[..4], ["here", "3", "false", "7"]);
        assert_eq!(lines[8..], ["one", "two words", ""]);
        assert!(remotes(lines[6]).is_empty());
        assert_eq!(remotes("a b"), ["a", "b"].map(|v| RemoteVersion(v.into())));
        assert!(!order.is_end());
    }
}
