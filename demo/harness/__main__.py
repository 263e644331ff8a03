"""`make demo`, after everything is built: `python -m harness DIRECTORY` writes its results into DIRECTORY.

INPUT names the text whose paragraphs are stored; DEMO_FAULTS=none leaves the faults out, and then the run
must fail.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
from pathlib import Path

from harness import checks, database, report, timeline
from harness.oracle import judge
from harness.outcome import row
from harness.source import Event, SourceError, events, read_paragraphs, write_share
from harness.stage import Stage, StageError
from harness.worker import Message, Worker

DEFAULT_INPUT = "/var/lib/dpkg/status"
DEMO = Path(__file__).resolve().parent.parent
# Keys of the one user who fires updates begin with this, in the BEAM worker.
BURST_KEY = "elixir/update/"


def commands(target: Path) -> dict[str, list[str]]:
    """How each worker is started; its directory and the database follow as arguments."""
    return {
        "elixir": [str(DEMO / "elixir" / "worker.sh")],
        "c": [str(target / "worker")],
        "python": [sys.executable, str(DEMO / "python" / "worker.py")],
    }


def main(target: Path) -> int:
    """Runs the demo; the result is the exit code."""
    mode = os.environ.get("DEMO_FAULTS", "all")
    if mode not in ("all", "none"):
        print(f"DEMO_FAULTS is {mode!r}, allowed are 'all' and 'none'", file=sys.stderr)
        return 64
    source = Path(os.environ.get("INPUT") or DEFAULT_INPUT)
    try:
        texts = read_paragraphs(source)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 66
    wanted = events(texts)
    path = target / "events.db"
    database.create(path)
    workers = prepare(target, path, wanted)
    print(f"{len(wanted)} events from {len(texts)} paragraphs of {source}, into {path}")
    stage = Stage(workers, path, faults=mode == "all")
    try:
        stage.run()
    except StageError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    run = report.Run(source, len(texts), len(wanted), stage.began_ns, stage.ended_ns, mode)
    return conclude(target, run, workers, evidence(path, wanted, len(texts), workers, stage))


def prepare(target: Path, path: Path, wanted: list[Event]) -> list[Worker]:
    """The workers, each with a directory that holds its events."""
    inbox: queue.SimpleQueue[tuple[str, Message | None]] = queue.SimpleQueue()
    workers = []
    for language, command in commands(target).items():
        directory = target / language
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        share = [event for event in wanted if event.language == language]
        write_share(share, directory / "events.txt")
        workers.append(Worker(language, [*command, str(directory), str(path)], directory, len(share), inbox))
    return workers


def evidence(
    path: Path, wanted: list[Event], paragraphs: int, workers: list[Worker], stage: Stage
) -> checks.Evidence:
    """Everything that the checks judge."""
    calls = [call for worker in workers for call in worker.limiter_calls()]
    return checks.Evidence(
        audit=database.audit(path, wanted),
        paragraphs=paragraphs,
        rows=[row(worker, stage.lock) for worker in workers],
        lock=stage.lock,
        faults=[fault for worker in workers for fault in worker.faults],
        burst=judge(call for call in calls if call.key.startswith(BURST_KEY)),
        limiter=judge(calls),
        services=next(worker.final for worker in workers if worker.language == "elixir" and worker.final),
    )


def conclude(target: Path, run: report.Run, workers: list[Worker], seen: checks.Evidence) -> int:
    """Writes the results and says how it went."""
    results = checks.all_checks(seen)
    report.write(target / "report.json", run, seen, results)
    (target / "timeline.svg").write_text(timeline.draw(run, workers, seen))
    print()
    print(report.table(seen.rows))
    print()
    print(report.inside_table(seen.rows))
    print()
    print(report.check_lines(results))
    print()
    failed = [check.name for check in results if not check.passed]
    verdict = (
        f"{len(failed)} of {len(results)} checks failed" if failed else f"all {len(results)} checks hold"
    )
    took = (run.ended_ns - run.began_ns) / 1e9
    print(f"demo: {verdict}, {took:.1f} s; see {target}/report.json, events.db, timeline.svg")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m harness DIRECTORY", file=sys.stderr)
        sys.exit(64)
    sys.exit(main(Path(sys.argv[1])))
