//! A thousand hosts without containers on one NATS server: how long all of them take to have a plan
//! and to report, and to be back after the server was killed.
//!
//! The gateway is a process of its own, so that its memory is its own: the engine, a journal on the
//! disk and the two bus ends that every gateway runs. Each host has a connection, a consumer and a key.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use keywheel_bench::deployment::{
    Gateway, ask, connect, enrol, gateway_identity, host_id, host_identity, submit, trust,
};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_bus::Nats;
use keywheel_core::command::Command;
use keywheel_core::report::HostReport;
use keywheel_engine::port::bus::{Body, Subscription, Topic};
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};
use keywheel_tests::scratch::Scratch;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::{Line, resident_mb};

/// Hosts.
const HOSTS: u32 = 1000;
/// Changes of all plans that are measured.
const CHANGES: usize = 10;
/// How often the server is killed.
const KILLS: usize = 3;
/// Reports that may wait to be counted.
const MAX_REACHED: usize = 4096;
/// How long all hosts may take for one change before the run is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// The word with which this program is the gateway.
pub(crate) const GATEWAY: &str = "--gateway";

/// A host reached a plan and its report was accepted.
struct Reached {
    host: u32,
    generation: u64,
    plan: Instant,
    report: Instant,
}

/// The gateway's process: a line on stdin changes all plans, and the generation comes back. Ends with
/// its stdin.
pub(crate) fn serve(url: &str, journal: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let bus = connect(url, gateway_identity()?, &trust(HOSTS)?).await?;
        let mut gateway = Gateway::start(bus.endpoint(), Path::new(journal)).await?;
        for line in std::io::stdin().lines() {
            line?;
            let generation = gateway.change_all_plans().await?;
            writeln!(std::io::stdout(), "{generation}")?;
        }
        Ok(())
    })
}

/// The gateway as its parent sees it; killed with the value.
struct Remote {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Remote {
    fn start(url: &str, journal: &Path) -> Result<Self> {
        let mut child = Process::new(std::env::current_exe()?)
            .arg(GATEWAY)
            .arg(url)
            .arg(journal)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            ask,
            answers,
        })
    }

    fn change(&mut self) -> Result<u64> {
        writeln!(self.ask, "change")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let answer = answer.trim();
        let read = answer.parse();
        read.with_context(|| format!("the gateway's process said: {answer}"))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Follows its plan and says so; reads it anew whenever the connection is back.
async fn live(
    number: u32,
    nats: Nats,
    mut plans: Box<dyn Subscription>,
    told: Sender<Result<Reached>>,
) {
    let end = nats.endpoint();
    let mut connects = nats.connects();
    let (mut held, mut said) = (0, 0);
    let mut plan_at = now();
    loop {
        tokio::select! {
            incoming = plans.next() => {
                let Some(incoming) = incoming else { return };
                if let Body::Plan(plan) = incoming.message.body && plan.generation > held {
                    (held, plan_at) = (plan.generation, now());
                }
                let _again = plans.ack(incoming.sequence).await;
            }
            changed = connects.changed() => {
                if changed.is_err() {
                    return;
                }
                let host = host_id(number);
                if let Ok(Body::Plan(plan)) = ask(&end, Body::ReadPlan { host }).await
                    && plan.generation > held
                {
                    (held, plan_at) = (plan.generation, now());
                }
            }
        }
        if held == said {
            continue;
        }
        let report = Command::Report(HostReport {
            generation: held,
            complete: true,
            ..HostReport::empty(host_id(number))
        });
        let accepted = submit(&end, report).await;
        said = held;
        let reached = Reached {
            host: number,
            generation: held,
            plan: plan_at,
            report: now(),
        };
        if told.send(accepted.map(|()| reached)).await.is_err() {
            return;
        }
    }
}

/// Spans from a moment to each host's plan and report, in milliseconds.
#[derive(Default)]
struct Spans {
    plans: Samples,
    reports: Samples,
    /// The slowest report of each change.
    all: Samples,
}

impl Spans {
    async fn wait(
        &mut self,
        begun: Instant,
        generation: u64,
        reached: &mut Receiver<Result<Reached>>,
    ) -> Result<()> {
        let mut missing: std::collections::BTreeSet<u32> = (1..=HOSTS).collect();
        let mut last = Duration::ZERO;
        while !missing.is_empty() {
            let Ok(next) = tokio::time::timeout(PATIENCE, reached.recv()).await else {
                bail!("{} hosts did not come back", missing.len());
            };
            let next = next.context("all hosts ended")??;
            if next.generation < generation || !missing.remove(&next.host) {
                continue;
            }
            let report = next.report.duration_since(begun);
            self.plans.add_span(next.plan.duration_since(begun));
            self.reports.add_span(report);
            last = last.max(report);
        }
        self.all.add_span(last);
        Ok(())
    }
}

async fn settle(url: &str) -> Result<Receiver<Result<Reached>>> {
    let trust = trust(HOSTS)?;
    let (told, reached) = mpsc::channel(MAX_REACHED);
    for number in 1..=HOSTS {
        let nats = connect(url, host_identity(number)?, &trust).await?;
        let end = nats.endpoint();
        enrol(&end, number).await?;
        let plans = end
            .subscribe(Topic::Plan(host_id(number)), "injector")
            .await?;
        tokio::spawn(live(number, nats, plans, told.clone()));
    }
    Ok(reached)
}

async fn measure(scratch: &Scratch, server: &mut NatsServer) -> Result<Vec<Line>> {
    let url = server.url();
    let mut gateway = Remote::start(&url, &scratch.join("fleet.sqlite"))?;
    let begun = now();
    let mut reached = settle(&url).await?;
    let mut enrolment = Samples::default();
    enrolment.add_span(begun.elapsed());
    let (mut first, mut changed, mut back) = (Spans::default(), Spans::default(), Spans::default());
    let begun = now();
    let generation = gateway.change()?;
    first.wait(begun, generation, &mut reached).await?;
    for _ in 0..CHANGES {
        let begun = now();
        let generation = gateway.change()?;
        changed.wait(begun, generation, &mut reached).await?;
    }
    let pid = server.pid().ok_or_else(|| anyhow!("the server is gone"))?;
    let before = [
        resident_mb(gateway.child.id())?,
        resident_mb(pid)?,
        resident_mb(std::process::id())?,
    ];
    for _ in 0..KILLS {
        server.kill();
        let generation = gateway.change()?;
        let begun = now();
        tokio::task::block_in_place(|| server.restart());
        back.wait(begun, generation, &mut reached).await?;
    }
    let pid = server.pid().ok_or_else(|| anyhow!("the server is gone"))?;
    let after = [resident_mb(gateway.child.id())?, resident_mb(pid)?];
    Ok(lines(enrolment, changed, back, before, after))
}

fn lines(
    enrolment: Samples,
    changed: Spans,
    back: Spans,
    before: [f64; 3],
    after: [f64; 2],
) -> Vec<Line> {
    let spans = [
        ("enrolled", "all connected, enrolled, subscribed", enrolment),
        ("plan", "change -> one host has its plan", changed.plans),
        (
            "report",
            "change -> its report is accepted",
            changed.reports,
        ),
        ("all", "change -> all reports are in", changed.all),
        (
            "back_plan",
            "server starts -> one host has its plan",
            back.plans,
        ),
        (
            "back_report",
            "server starts -> its report is accepted",
            back.reports,
        ),
        ("back_all", "server starts -> all reports are in", back.all),
    ];
    let spans = spans.into_iter();
    spans
        .map(|(key, what, samples)| line(key, what, samples))
        .chain(memory(before, after))
        .collect()
}

fn memory(before: [f64; 3], after: [f64; 2]) -> Vec<Line> {
    let rows = [
        ("gateway_mb", "memory of the gateway, MB", before[0]),
        ("nats_mb", "memory of nats-server, MB", before[1]),
        ("hosts_mb", "memory of all hosts' ends, MB", before[2]),
        ("gateway_after_mb", "gateway after the kills, MB", after[0]),
        ("nats_after_mb", "nats-server after the kills, MB", after[1]),
    ];
    let one = |(key, what, value): (&str, &str, f64)| {
        let mut samples = Samples::default();
        samples.add(value);
        line(key, what, samples)
    };
    rows.into_iter().map(one).collect()
}

fn line(key: &str, what: &str, samples: Samples) -> Line {
    Line {
        key: format!("fleet_{key}"),
        what: format!("{HOSTS} hosts: {what}"),
        samples,
        budget: "-",
    }
}

/// Plans, reports and the return of a thousand hosts.
pub(crate) fn fleet() -> Result<Vec<Line>> {
    let scratch = Scratch::make()?;
    let version = VERSIONS.last().context("no NATS version")?;
    let mut server = NatsServer::start(Settings::of(version));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async { measure(&scratch, &mut server).await })
}
