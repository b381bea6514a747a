"""Brainy's own index, and the crate hnsw_rs: both in the binary of benches/kernel, asked in JSON."""

import json
import os
import subprocess
from pathlib import Path

from .peers import Peer, rectangle
from .data import K

MANIFEST = Path(__file__).resolve().parent.parent / "kernel" / "Cargo.toml"


class Brainy(Peer):
    name = "brainy"
    bytes_from = "as the binary counts them"
    process = None

    @property
    def version(self):
        return "this tree"

    def build(self, rows, threads):
        self.start(rows, threads)
        answer = self.ask({"op": "build"})
        self.build_seconds = answer["buildSeconds"]
        self.bytes_per_vector = answer["bytesPerVector"]
        self.params = answer["params"]

    def measure(self):
        pass

    def start(self, rows, threads):
        command = [binary(), rows.folder, "--metric", rows.metric, "--builder", self.name]
        command += ["--threads", str(threads)]
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


class HnswRs(Brainy):
    name = "hnsw_rs"


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
