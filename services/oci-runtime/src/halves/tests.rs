//! What the outer half does with orders that it may not follow. What it does with a half that ends: `tests/privilege.rs`.

use super::*;
use crate::args::Create;

const ID: &str = "0123456789abcdef";

/// An outer half over this test's thread, which speaks as the filtered one.
fn outer<'a>(invocation: &'a Invocation, work: &'a Work, runtime: &str) -> (Outer<'a>, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (socket, inner) = pair.unwrap();
    let (read, _) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stand_in = std::process::Command::new("sleep").arg("600").spawn();
    let outer = Outer {
        invocation,
        work,
        runtime: Some(runtime.into()),
        socket,
        feed: Some(read),
        filtered: Pid::from_child(&stand_in.unwrap()),
        ran: None,
    };
    (outer, inner)
}

fn create() -> (Invocation, Work) {
    let words = ["create", "--bundle", "/b", ID].map(OsString::from);
    let invocation = Invocation::parse(words);
    let create: Create = invocation.create().unwrap().unwrap();
    (invocation, Work::Create { create, begun: 1 })
}

fn exec() -> (Invocation, Work) {
    let words = ["exec", "--process", "/p", "--detach", ID].map(OsString::from);
    let invocation = Invocation::parse(words);
    let exec = invocation.exec().unwrap();
    (invocation, Work::Exec(exec))
}

#[test]
fn only_this_calls_container_is_made_and_once() {
    for path in ["/x/other", ID, "/", "", "/x/0123456789abcdef/.."] {
        let (invocation, work) = create();
        let (outer, inner) = outer(&invocation, &work, "/bin/true");
        tell(&inner, CREATE, path.as_bytes()).unwrap();
        let refused = outer.serve().unwrap_err().text();
        assert!(refused.contains("filtered half"), "{path}: {refused}");
    }
    let (invocation, work) = create();
    let (outer, inner) = outer(&invocation, &work, "/bin/false");
    let path = format!("/x/{ID}");
    tell(&inner, CREATE, path.as_bytes()).unwrap();
    tell(&inner, CREATE, path.as_bytes()).unwrap();
    assert!(outer.serve().is_err());
    let (kind, status) = hear(&inner).unwrap().unwrap();
    assert_eq!(
        (kind, status.as_slice()),
        (STATUS, &FAILED.to_le_bytes()[..])
    );
    assert_eq!(hear(&inner).unwrap(), None, "it ran twice");
}

#[test]
fn nothing_is_removed_that_this_call_did_not_make() {
    for (before, runtime) in [(None, "/bin/true"), (Some(CREATE), "/bin/false")] {
        let (invocation, work) = create();
        let (outer, inner) = outer(&invocation, &work, runtime);
        if let Some(kind) = before {
            tell(&inner, kind, format!("/x/{ID}").as_bytes()).unwrap();
        }
        tell(&inner, DELETE, b"").unwrap();
        assert!(outer.serve().is_err());
        let answers = std::iter::from_fn(|| hear(&inner).unwrap()).count();
        assert_eq!(answers, usize::from(before.is_some()));
    }
}

#[test]
fn what_ran_is_not_passed_to_the_real_runtime_once_more() {
    let (invocation, work) = create();
    let (outer, inner) = outer(&invocation, &work, "/bin/true");
    tell(&inner, CREATE, format!("/x/{ID}").as_bytes()).unwrap();
    tell(&inner, PASS, &[0]).unwrap();
    assert!(outer.serve().is_err());
}

#[test]
fn an_exec_whose_half_ends_passes_through_or_ends_as_it_ran() {
    let (invocation, work) = exec();
    let (before, inner) = outer(&invocation, &work, "/bin/false");
    drop(inner);
    assert_eq!(before.serve().unwrap(), Outcome::PassThrough);
    let (after, inner) = outer(&invocation, &work, "/bin/false");
    tell(&inner, EXEC, b"").unwrap();
    drop(inner);
    assert_eq!(after.serve().unwrap(), Outcome::Done(1));
    // It may not create anything either.
    let (other, inner) = outer(&invocation, &work, "/bin/true");
    tell(&inner, CREATE, format!("/x/{ID}").as_bytes()).unwrap();
    assert_eq!(other.serve().unwrap(), Outcome::PassThrough);
}
