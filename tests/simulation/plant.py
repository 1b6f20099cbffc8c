#!/usr/bin/env python3
"""Plants faults in the event loop, one at a time, and prints which seed of the simulation finds each.

    python3 tests/simulation/plant.py            all of them, as the table in README.md
    python3 tests/simulation/plant.py latch      those with this word in their names

It works on a copy of the committed tree in `target/plant`. A fault is a replacement of source text. If the text is no longer
there, the script says so and exits with 1: then the fault has to be written for the new code. It also exits with 1 if a fault is
not found.
"""

import re
import subprocess
import sys
from pathlib import Path

# What it is; the text that stands once in these files, and what stands there instead.
FILES = ["src/reactor/*.rs", "src/guard/mod.rs"]
FAULTS = [
    ("A close leaves the connection's name: it is freed twice (the crash that one client could cause)",
     "        self.stage = Stage::Closed;\n        self.peer = None;\n", "        self.stage = Stage::Closed;\n"),
    ("An unchecked generation: a stranger is told what was meant for somebody who is gone",
     ".filter(|connection| connection.peer == Some(peer))\n}\n\n#[cfg(any(", ".filter(|connection| connection.peer.is_some())\n}\n\n#[cfg(any("),
    ("The read latch is cleared when the budget is spent",
     "        (budget - left, Ok(()))\n", "        self.latches.clear(Readiness::READABLE);\n        (budget - left, Ok(()))\n"),
    ("The write latch is cleared after each write",
     "                    self.outbox.consume(count);\n                    match self.transport_backlog",
     "                    self.outbox.consume(count);\n                    self.latches.clear(Readiness::WRITABLE);\n                    match self.transport_backlog"),
    ("The event of a queued connection is not latched",
     "                        connection.latch(readiness);\n", "                        if !connection.queued {\n                            connection.latch(readiness);\n                        }\n"),
    ("A source is queued twice",
     "        if mem::replace(&mut connection.queued, true) {\n            return;", "        if connection.queued {\n            return;"),
    ("A connection with more to do is not queued again",
     "        board.enqueue_behind(peer);\n    }\n    let connection", "    }\n    let connection"),
    ("The read budget is forgotten",
     "            .read_bytes_per_turn\n            .min(self.read_size as usize)\n", "            .inbox_bytes_max\n"),
    ("A spent share of the turn is not remembered",
     "connection.unserved = mem::take(&mut board.share.is_spent) && !inbox.is_empty();",
     "connection.unserved = mem::take(&mut board.share.is_spent) && false;"),
    ("`on_drain` is not called", "    handler.on_drain(board, peer);\n", "    let _ = &handler;\n"),
    ("What is left of a list when the turn's time is over is dropped",
     "self.clock() >= ends {\n                return;\n            }\n            self.fire_due_now(served);",
     "self.clock() >= ends {\n                list(&mut self.board).drain(..count - served);\n                return;\n            }\n            self.fire_due_now(served);"),
    ("Those that had their share are not served again", "        self.serve_first(waiting, |board| &mut board.queue_behind);\n", "        let _ = waiting;\n"),
    ("A source stays marked as queued", "        connection.queued = false;\n        board.share", "        board.share"),
    ("The accept edge is lost at the limit of connections",
     "    if is_full || listener.connections >= listener.limits.connections_max {\n",
     "    if is_full || listener.connections >= listener.limits.connections_max {\n        listener.readable = false;\n"),
    ("Accepting stops after its budget", "        } else {\n            listener.enqueue(board, index);\n", "        } else {\n"),
    ("A renewed listener forgets who waits", "        listener.is_watched = false;\n        listener.readable = true;\n", "        listener.is_watched = false;\n"),
    ("A rest after EMFILE never ends", "Pause::Starved(until) if until <= now)", "Pause::Starved(until) if until < super::Moment::default())"),
    ("A free place wakes no listener", "        self.spare_peers = peers;\n        self.resume_listeners();\n", "        self.spare_peers = peers;\n"),
    ("The count of handshakes is not taken back", "                listener.handshakes -= usize::from(!connection.established);\n", ""),
    ("The count of connections is not taken back", "                listener.connections -= 1;\n", ""),
    ("Bytes that the handshake read on are not served", "                connection.latch(Readiness::READABLE);\n            }\n            connection.received_at", "            }\n            connection.received_at"),
    ("A handshake over the budget is forgotten",
     "                board.opening.push_back(peer);\n", ""),
    ("The beginning of a message is dropped", "    connection.inbox.take_from(inbox, spares);\n", "    inbox.clear();\n"),
    ("Bytes that were written stay in the outbox",
     "                    self.outbox.consume(count);\n                    match self.transport_backlog", "                    match self.transport_backlog"),
    ("The end of file is not told to the handler",
     "                    self.latches.clear(Readiness::READABLE);\n                    if self.reading == Half::Open {\n                        self.reading = Half::Finishing;\n                    }\n                    break;\n                }\n                Ok(count) => {",
     "                    self.latches.clear(Readiness::READABLE);\n                    break;\n                }\n                Ok(count) => {"),
    ("A finish waits for the next event",
     "        if !connection.flush_is_arranged {\n            connection.flush_is_arranged = true;\n            self.to_flush.push(peer);\n        }\n    }\n\n    /// Ends the connection now",
     "    }\n\n    /// Ends the connection now"),
    ("A connection ends before its peer does",
     "        self.writing == Half::Finished && self.peer_finished\n", "        self.writing == Half::Finished\n"),
    ("A connection that is over does not end", "    if connection.is_over() {\n", "    if false {\n"),
    ("An end is counted twice", "            board.counters.closed[reason.row()] += 1;\n", "            board.counters.closed[reason.row()] += 2;\n"),
    ("Closed connections are lost where a turn has too many",
     "        board.closed.splice(..0, peers.drain(..)); // the rest comes first in the next turn\n", "        peers.clear();\n"),
    ("The rest of a slice of writes is not written", "            false => self.keep_rest(fresh),\n", "            false => drop(fresh),\n"),
    ("What older slices have left is not written",
     "            if !older.is_empty() {\n                self.unwritten.push_back(older);\n            }\n", "            drop(older);\n"),
    ("What a timer in the middle of a turn has left is not written",
     "        if !sent.is_empty() {\n            self.keep_rest(sent);\n        }\n", "        drop(sent);\n"),
    ("A pause in reading never ends", "    if connection.end_pause_if_over(now) {\n", "    if false && connection.end_pause_if_over(now) {\n"),
    ("A connection is closed for its silence without a last look", "    if connection.lingers() {\n", "    if true {\n"),
    ("Nothing is decided after the last look",
     "                    self.end_last_look(peer);\n", "                    let _ = peer;\n"),
    ("A deadline that was looked at too early is forgotten",
     "    if connection.deadline().0 > now {\n        return board.deadlines.arm(peer.slot, connection.next_look_at(now));\n",
     "    if connection.deadline().0 > now {\n        return;\n"),
    ("A drain passes over connections",
     "        peers.into_iter().for_each(|peer| self.board.enqueue(peer));\n", "        drop(peers);\n"),
    ("A cut leaves closed connections", "        while !self.board.closed.is_empty() {\n", "        if !self.board.closed.is_empty() {\n"),
    ("The place of an address is not given back", "        self.crowd.release(ticket, now);\n", "        let _ = (ticket, now);\n"),
]


def run(command, directory):
    return subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def first_seed(tree):
    """Returns the first seed that fails, with what failed, or the reason why there is none."""
    done = run("timeout 600 cargo test --locked --test simulation every_promise".split(), tree)
    seed = re.search(r"^SIMULATION_SEED=(\d+)", done.stdout, re.MULTILINE)
    panic = re.search(r"panicked at [^\n]*\n([^\n]*)", done.stdout)
    if seed and panic:
        return seed[1], panic[1].replace("|", "\\|")[:100]
    if done.returncode == 124:
        return "?", "a turn that never ends"
    if "error[" in done.stdout or "could not compile" in done.stdout:
        return None, "it does not compile"
    return None, "NOT FOUND"


def main():
    root = Path(__file__).resolve().parents[2]
    tree = root / "target" / "plant"
    if not tree.exists():
        run(["git", "clone", "-q", str(root), str(tree)], root)
    for command in ("git fetch -q origin HEAD", "git reset -q --hard FETCH_HEAD"):
        run(command.split(), tree)
    is_fine = True
    print("| Fault | Seed | Found by |\n|---|---|---|", flush=True)
    for name, text, instead in FAULTS:
        if not all(word.lower() in name.lower() for word in sys.argv[1:]):
            continue
        sources = {path: path.read_text() for pattern in FILES for path in tree.glob(pattern)}
        places = [path for path, source in sources.items() if text in source]
        if len(places) != 1 or sources[places[0]].count(text) != 1:
            is_fine = False
            print(f"| {name} | | its text is in {len(places)} files |", flush=True)
            continue
        path = places[0]
        path.write_text(sources[path].replace(text, instead))
        seed, found_by = first_seed(tree)
        path.write_text(sources[path])
        is_fine = is_fine and seed is not None
        print(f"| {name} | {seed or ''} | {found_by} |", flush=True)
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    main()
