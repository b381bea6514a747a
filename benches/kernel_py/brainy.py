"""Brainy's own index, and the crate hnsw_rs: both in the binary of benches/kernel, asked in JSON."""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy

from .data import K
from .peers import Peer, rectangle

MANIFEST = Path(__file__).resolve().parent.parent / "kernel" / "Cargo.toml"


class Binary(Peer):
    bytes_from = "as the binary counts them"
    process = None

    @property
    def version(self):
        return "this tree"

    def prepare(self, rows):
        self.rows, self.program = rows, binary()

    def build(self, threads):
        self.start(threads)
        answer = self.ask({"op": "build"})
        self.build_seconds = answer["buildSeconds"]
        self.bytes_per_vector = answer["bytesPerVector"]
        self.params = answer["params"]

    def measure(self):
        pass

    def start(self, threads):
        command = [self.program, self.rows.folder, "--metric", self.rows.metric]
        command += ["--builder", self.name, "--threads", str(threads)]
        command += ["--full-precision"] if self.rows.full_precision else []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question):
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"kernel-bench ended with {self.process.wait()} at {question['op']}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{question['op']}: {answer['error']}")
        return answer

    def search(self, width):
        question = {"op": "search", "k": K}
        if width is not None:
            question["ef"] = width
        answer = self.ask(question)
        return answer["seconds"], rectangle(answer["ids"])

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()


class Brainy(Binary):
    name = "brainy"
    filter_note = None

    def use_filter(self, masks, count):
        with tempfile.NamedTemporaryFile(prefix="brainy-kernel-", suffix=".npy") as file:
            numpy.save(file, masks.unpacked())
            file.flush()
            self.ask({"op": "filters", "path": file.name})

    def filtered(self, width):
        return self.search(width)

    def unfiltered(self):
        self.ask({"op": "filters", "path": None})


class HnswRs(Binary):
    name = "hnsw_rs"

    @property
    def version(self):
        lock = MANIFEST.with_name("Cargo.lock")
        text = lock.read_text() if lock.exists() else ""
        found = re.search(r'name = "hnsw_rs"\nversion = "(.+)"', text)
        return found.group(1) if found else "of an unknown version"


def binary():
    named = os.environ.get("BRAINY_TEST_KERNEL_BIN")
    if named:
        return named
    if not MANIFEST.exists():
        raise RuntimeError(f"there is no {MANIFEST.relative_to(MANIFEST.parent.parent.parent)}")
    command = ["cargo", "build", "--release", "--manifest-path", MANIFEST]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise RuntimeError("the build of benches/kernel failed")
    target = os.environ.get("CARGO_TARGET_DIR") or MANIFEST.parent / "target"
    return Path(target) / "release" / "kernel-bench"
