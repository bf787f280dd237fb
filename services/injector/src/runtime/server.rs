//! The sockets on which the runtime wrapper asks: one for creates, one for execs.
//!
//! Invariants: only root may ask, by the kernel's word; the socket is 0600 and replaces a stale
//! one atomically; requests have a pool of their own, so neither a restart that waits for its
//! container nor a busy reconciler can starve them (rule J13), and no number of health checks either:
//! execs have a smaller one, and where that is full they go on as they are; no exec is ever a refused start; a "no" is answered after its fact is
//! on the disk, or after [`RECORD_TIMEOUT`], with an error in the log.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::report::DeniedStart;
use keywheel_daemon::{chain, failpoint, lines, names};
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::attach::Tools;
use crate::origin::{SERVICE, trace_id};
use crate::runtime::watch::{Create, Creates};
use crate::runtime::wire::{MAX_LINE_BYTES, Question, Refusal, refusal_line};
use crate::runtime::{answer, exec, place, wrapper};
use crate::service::Event;
use crate::shared::Shared;

/// Requests answered at the same time; more wait.
const MAX_REQUESTS: usize = 64;
/// Execs answered at the same time; more are told at once that there is nothing for them.
const MAX_EXECS: usize = 16;
/// How long the question of an exec or the reading of its answer may take.
const EXEC_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a question or the reading of an answer may take.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused start may take to come onto the disk before it is answered all the same.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);
/// The version of the words.
const PROTOCOL: u32 = 1;
/// What the question of an exec is called.
const EXEC: &str = "exec";

/// The listening socket.
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Binds under another name, narrows the mode, then takes the name.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let fresh = path.with_extension(format!("new.{}", std::process::id()));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        let inode = std::fs::symlink_metadata(&fresh)?.ino();
        std::fs::rename(&fresh, path)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode,
        })
    }

    /// Answers until told to stop.
    pub(crate) async fn run(
        self,
        shared: Arc<Shared>,
        tools: Tools,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) {
        let creates = Arc::new(Creates::default());
        let answering = move |stream| {
            let (shared, tools, events) = (Arc::clone(&shared), tools.clone(), events.clone());
            let creates = Arc::clone(&creates);
            async move { serve(stream, (&shared, &creates), &tools, &events).await }
        };
        self.accept(stop, answering).await;
    }

    /// Gives every connection to `serve`, [`MAX_REQUESTS`] at a time.
    async fn accept<F, A>(self, stop: CancellationToken, serve: F)
    where
        F: Fn(UnixStream) -> A,
        A: Future<Output = io::Result<()>> + Send + 'static,
    {
        let pool = Arc::new(Semaphore::new(MAX_REQUESTS));
        let tasks = TaskTracker::new();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&pool).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let answered = serve(stream);
                    tasks.spawn(async move {
                        if let Err(error) = answered.await {
                            tracing::debug!(
                                { names::ERROR } = chain(&error),
                                "runtime request broke off"
                            );
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        { names::ERROR } = chain(&error),
                        "runtime request not accepted"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        tasks.close();
        // A container under creation gets its answer or a refusal, not silence.
        let _ = tokio::time::timeout(LINE_TIMEOUT, tasks.wait()).await;
        self.leave();
    }

    /// Answers execs until told to stop.
    pub(crate) async fn run_execs(
        self,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) {
        let answering = move |stream| {
            let (shared, events) = (Arc::clone(&shared), events.clone());
            async move { serve_exec(stream, &shared, &events).await }
        };
        self.accept_execs(stop, answering).await;
    }

    /// Gives every connection to `serve`, [`MAX_EXECS`] at a time, and nothing to those beyond.
    async fn accept_execs<F, A>(self, stop: CancellationToken, serve: F)
    where
        F: Fn(UnixStream) -> A,
        A: Future<Output = io::Result<()>> + Send + 'static,
    {
        let pool = Arc::new(Semaphore::new(MAX_EXECS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&pool).try_acquire_owned() else {
                // Whether it arrives or not, the exec goes on.
                if let Ok(mut direct) = stream.into_std() {
                    let _ = io::Write::write(&mut direct, exec::PLACEHOLDERS);
                }
                continue;
            };
            let answered = serve(stream);
            tokio::spawn(async move {
                // One that breaks off goes on without.
                let _ = answered.await;
                drop(permit);
            });
        }
        self.leave();
    }

    fn leave(&self) {
        // A successor may have taken the name already.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Anybody but root gets nothing, as does whoever asks for anything else.
async fn serve_exec(
    mut stream: UnixStream,
    shared: &Shared,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let is_root = stream.peer_cred()?.uid() == 0;
    let line = tokio::time::timeout(EXEC_TIMEOUT, read_line(&mut stream)).await;
    let line = line.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let question = serde_json::from_slice::<Question>(&line).ok();
    let question = question.filter(|one| is_root && one.v == PROTOCOL && one.op == EXEC);
    let answer = match question {
        Some(question) => exec::answer(shared, &question, events).await,
        None => Zeroizing::new(exec::PLACEHOLDERS.to_vec()),
    };
    match tokio::time::timeout(EXEC_TIMEOUT, stream.write_all(&answer)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn serve(
    mut stream: UnixStream,
    (shared, creates): (&Arc<Shared>, &Arc<Creates>),
    tools: &Tools,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    if stream.peer_cred()?.uid() != 0 {
        tracing::warn!(
            uid = stream.peer_cred()?.uid(),
            "runtime request of a user that is not root refused"
        );
        let refusal = Refusal::new(
            "only root may ask the injector",
            "let the container engine call the runtime",
        );
        return write(&mut stream, &refusal_line(&refusal)).await;
    }
    let question = match tokio::time::timeout(LINE_TIMEOUT, read_line(&mut stream)).await {
        Ok(line) => line?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let create = under_way(&question, shared, creates);
    let (line, answered) = reply(&question, shared, tools, events).await;
    let written = write(&mut stream, &line).await;
    if let Some(create) = create {
        // It holds no place among the requests: the next question of the same create needs one.
        tokio::spawn(create.watch(stream));
    }
    written?;
    // The answer is out; an injected error has no meaning any more.
    if let Some(point) = answered {
        let _injected = failpoint::hit_async(point).await;
    }
    Ok(())
}

/// The create that the question begins, where the wrapper lets its end be seen.
fn under_way(line: &[u8], shared: &Shared, creates: &Arc<Creates>) -> Option<Create> {
    let question: Question = serde_json::from_slice(line).ok()?;
    let is_first = question.holds && question.op == "resolve";
    let id = answer::parse_id(&question.id).ok().filter(|_| is_first)?;
    Some(creates.begin(id, &shared.options.bundles()))
}

/// The answer, and the failpoint that comes after it.
async fn reply(
    line: &[u8],
    shared: &Arc<Shared>,
    tools: &Tools,
    events: &mpsc::Sender<Event>,
) -> (Zeroizing<Vec<u8>>, Option<&'static str>) {
    let same_version = "install keywheel and keywheel-runtime of the same version";
    let question: Question = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(_) => {
            let refusal = Refusal::new("the runtime's question is not understood", same_version);
            return (no(&refusal), None);
        }
    };
    // Answered at the other socket. Here it is no start either, in whatever version.
    if question.op == EXEC {
        return (Zeroizing::new(exec::PLACEHOLDERS.to_vec()), None);
    }
    let answered = match (question.v, question.op.as_str()) {
        (PROTOCOL, "resolve") => resolve(shared, &question)
            .await
            .map(|line| (line, "injector.after_resolve")),
        (PROTOCOL, "attach") => match place::place(shared, tools, &question).await {
            Ok(event) => {
                if let Event::Placed { id, pending, .. } = &event {
                    tracing::info!(
                        { names::EVENT } = lines::CONTAINER_SERVED,
                        { names::CONTAINER } = id.short(),
                        { names::TRACE } = trace_id(pending.trace),
                        "container served"
                    );
                }
                // The reconciler ends only with the whole injector.
                let _ = events.send(event).await;
                let line = Zeroizing::new(b"{\"ok\":true}\n".to_vec());
                Ok((line, "injector.after_attach_answer"))
            }
            Err(denied) => Err(denied),
        },
        _ => Err(answer::no(
            "the runtime asks in words this injector does not know",
            same_version,
        )),
    };
    match answered {
        Ok((line, point)) => (line, Some(point)),
        Err(refused) => {
            let answer::Refused { refusal, denied } = *refused;
            tracing::warn!(
                { names::EVENT } = lines::CONTAINER_REFUSED,
                { names::REASON } = refusal.error,
                { names::KIND } = question.op,
                "container refused"
            );
            if let Some(denied) = denied.or_else(|| answer::unknown(&question, &refusal)) {
                record(denied, events).await;
            }
            (no(&refusal), None)
        }
    }
}

/// A container's start is a trace of its own, which began when the runtime was called.
async fn resolve(shared: &Arc<Shared>, question: &Question) -> answer::Answer<Zeroizing<Vec<u8>>> {
    let mut create = Some(wrapper::begin(shared, question));
    let above = create.as_ref().and_then(Span::context);
    let mut span = Span::below(SERVICE, spans::START, Kind::Server, above)
        .with(spans::RPC_SYSTEM, spans::SYSTEM)
        .with(spans::RPC_METHOD, spans::START)
        .with(spans::HOST, shared.options.host_name.to_string())
        .with(spans::CONTAINER_ID, question.id.clone());
    let resolved = answer::resolve(shared, question, span.context(), &mut create).await;
    if let Err(refused) = &resolved {
        for span in create.iter_mut().chain([&mut span]) {
            span.fail("refused", &refused.refusal.error);
        }
    }
    resolved
}

/// Waits until the disk has it: who is told "no" finds it in the audit later.
async fn record(denied: DeniedStart, events: &mpsc::Sender<Event>) {
    let (kept, is_kept) = oneshot::channel();
    let event = Event::RefusedStart {
        denied: Box::new(denied),
        kept,
    };
    let recorded = async { events.send(event).await.is_ok() && is_kept.await.is_ok() };
    if !tokio::time::timeout(RECORD_TIMEOUT, recorded)
        .await
        .unwrap_or(false)
    {
        tracing::error!("refused start answered before it was on the disk");
    }
}

fn no(refusal: &Refusal) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(refusal_line(refusal))
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        let part = chunk.get(..count).unwrap_or_default();
        match part.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                line.extend_from_slice(part.get(..end).unwrap_or_default());
                return Ok(line);
            }
            None if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => line.extend_from_slice(part),
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn write(stream: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(LINE_TIMEOUT, stream.write_all(line)).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Turns that everybody else gets before a count is believed.
    const TURNS: usize = 20_000;

    async fn settle() {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    }

    /// Something is answered: it is counted, and ends once it may.
    async fn served(begun: Arc<AtomicUsize>, may_end: Arc<Semaphore>) -> io::Result<()> {
        begun.fetch_add(1, Ordering::Relaxed);
        may_end.acquire().await.unwrap().forget();
        Ok(())
    }

    #[tokio::test]
    async fn one_request_more_than_are_answered_at_once_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("injector.sock");
        let server = Server::bind(&path).unwrap();
        let stop = CancellationToken::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let may_end = Arc::new(Semaphore::new(0));
        let (counted, gate) = (Arc::clone(&begun), Arc::clone(&may_end));
        let serve = move |_: UnixStream| served(Arc::clone(&counted), Arc::clone(&gate));
        let running = tokio::spawn(server.accept(stop.clone(), serve));
        let mut clients = Vec::new();
        for _ in 0..=MAX_REQUESTS {
            clients.push(UnixStream::connect(&path).await.unwrap());
        }
        settle().await;
        assert_eq!(begun.load(Ordering::Relaxed), MAX_REQUESTS);
        may_end.add_permits(1);
        settle().await;
        assert_eq!(begun.load(Ordering::Relaxed), MAX_REQUESTS + 1);
        may_end.add_permits(MAX_REQUESTS);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn one_exec_more_than_are_answered_at_once_is_told_of_nothing_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("injector-exec.sock");
        let server = Server::bind(&path).unwrap();
        let stop = CancellationToken::new();
        let begun = Arc::new(AtomicUsize::new(0));
        let may_end = Arc::new(Semaphore::new(0));
        let (counted, gate) = (Arc::clone(&begun), Arc::clone(&may_end));
        let serve = move |_: UnixStream| served(Arc::clone(&counted), Arc::clone(&gate));
        let running = tokio::spawn(server.accept_execs(stop.clone(), serve));
        let mut clients = Vec::new();
        for _ in 0..MAX_EXECS {
            clients.push(UnixStream::connect(&path).await.unwrap());
        }
        settle().await;
        assert_eq!(begun.load(Ordering::Relaxed), MAX_EXECS);
        let mut beyond = UnixStream::connect(&path).await.unwrap();
        let mut said = Vec::new();
        beyond.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, exec::PLACEHOLDERS);
        assert_eq!(begun.load(Ordering::Relaxed), MAX_EXECS);
        may_end.add_permits(MAX_EXECS);
        stop.cancel();
        running.await.unwrap();
        assert!(!path.exists());
    }
}
