"""What the recovery benchmark compares with, each as its documentation has it.

`torchrun`: one agent, DDP, a checkpoint every 50 steps. `torchrun tuned`: looks 100 times a second and saves every 5.
`HF Trainer`: transformers' Trainer under torchrun, resuming from its newest checkpoint. `torchft`: two replica groups
of one rank, gloo, and a lighthouse; each group is started again when it dies, and heals from the other.

This file is also their training program: `recovery_peers.py KIND FOLDER`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from recovery_job import RANKS, RATE, Line, batch, hugging_face_model, read_lines, thread_limit, write_line

STEPS = "steps.txt"
PIDS = "pid-{rank}"
SAVE_EVERY = {"torchrun": 50, "torchrun tuned": 5, "HF Trainer": 50}
LIGHTHOUSE_PORT = 29511


def rank_of() -> int:
    return int(os.environ["RANK"])


def train(kind: str, folder: Path) -> None:
    """The plain loop: DDP, resume, step, save."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, saved = rank_of(), folder / "checkpoint.pt"
    (folder / PIDS.format(rank=rank)).write_text(str(os.getpid()))
    torch.manual_seed(1)
    model = DistributedDataParallel(hugging_face_model())
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    step = 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.module.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        step = state["step"]
    while True:
        step += 1
        rows = batch(step, rank)
        model(input_ids=rows, labels=rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        if rank == 0:
            write_line(folder / STEPS, str(os.getpid()), step)
            if step % SAVE_EVERY[kind] == 0:
                torch.save(
                    {"model": model.module.state_dict(), "adam": adam.state_dict(), "step": step}, f"{saved}.new"
                )
                Path(f"{saved}.new").replace(saved)


def train_trainer(_: str, folder: Path) -> None:
    """transformers' Trainer."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    torch.set_num_threads(1)
    rank = rank_of()
    (folder / PIDS.format(rank=rank)).write_text(str(os.getpid()))

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, index: int) -> Any:
            row = batch(index, 0)[0]
            return {"input_ids": row, "labels": row}

    class Watch(TrainerCallback):
        def on_step_end(self, _arguments: Any, state: Any, *_: object, **__: object) -> None:
            if rank == 0:
                write_line(folder / STEPS, str(os.getpid()), state.global_step)

    arguments = TrainingArguments(
        output_dir=str(folder / "out"), max_steps=100_000, per_device_train_batch_size=2, learning_rate=RATE,
        use_cpu=True, logging_steps=10_000, save_steps=SAVE_EVERY["HF Trainer"], save_total_limit=2, report_to="none",
        disable_tqdm=True, ddp_backend="gloo", optim="adamw_torch_fused",
    )  # fmt: skip
    trainer = Trainer(hugging_face_model(), arguments, train_dataset=Rows(), callbacks=[Watch()])
    (folder / "out").mkdir(exist_ok=True)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder / "out")))


def train_torchft(_: str, folder: Path) -> None:
    """One replica group of one rank."""
    import torch
    from torch.distributed import TCPStore
    from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

    torch.set_num_threads(1)
    group = int(os.environ["REPLICA_GROUP_ID"])
    (folder / PIDS.format(rank=group)).write_text(str(os.getpid()))
    torch.manual_seed(1)
    model = hugging_face_model()
    adam = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def load(state: Any) -> None:
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=10)),
        load_state_dict=load,
        state_dict=lambda: {"model": model.state_dict(), "adam": adam.state_dict()},
        min_replica_size=1,
        timeout=timedelta(seconds=10),
        quorum_timeout=timedelta(seconds=60),
        rank=0,
        world_size=1,
        store_addr="127.0.0.1",
        store_port=store.port,
        lighthouse_addr=f"http://127.0.0.1:{LIGHTHOUSE_PORT}",
        replica_id=f"group-{group}",
    )
    replicated, optimiser = DistributedDataParallel(manager, model), Optimizer(manager, adam)
    while True:
        optimiser.zero_grad()
        rows = batch(manager.current_step(), group)
        replicated(input_ids=rows, labels=rows).loss.backward()
        before = manager.current_step()
        optimiser.step()
        if manager.current_step() > before:
            write_line(folder / STEPS, str(group), manager.current_step())


PROGRAMS = {
    "torchrun": train, "torchrun tuned": train, "HF Trainer": train_trainer, "torchft": train_torchft,
}  # fmt: skip
TUNED = ("--monitor-interval=0.01", "--rdzv-conf=last_call_timeout=1,join_timeout=30")


class Peer:
    """A peer at work in a folder; leave it to end everything it started."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.programs: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Peer:
        self.folder.mkdir(parents=True)
        if self.kind == "torchft":
            self._start("lighthouse", [
                *lighthouse(), "--min_replicas", "1", "--quorum_tick_ms", "50", "--join_timeout_ms", "1000",
                "--heartbeat_timeout_ms", "1000", "--bind", f"0.0.0.0:{LIGHTHOUSE_PORT}",
            ])  # fmt: skip
            for group in range(RANKS):
                self._start_group(group)
        else:
            tuned = TUNED if self.kind == "torchrun tuned" else ()
            self._start("torchrun", [
                sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}",
                "--max-restarts=1000", *tuned, __file__, self.kind, str(self.folder),
            ])  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for program in self.programs.values():
            with suppress(psutil.NoSuchProcess):
                for process in [*psutil.Process(program.pid).children(recursive=True), psutil.Process(program.pid)]:
                    process.kill()
            program.wait()

    def kill_rank(self, rank: int) -> None:
        """SIGKILL of a rank."""
        os.kill(int((self.folder / PIDS.format(rank=rank)).read_text()), signal.SIGKILL)

    def tend(self) -> None:
        """Start torchft's groups again that have ended, as whoever runs it has to; some end when another is killed."""
        for name in [name for name, program in self.programs.items() if program.poll() is not None]:
            if self.kind == "torchft" and name != "lighthouse":
                self._start_group(int(name.removeprefix("group-")))

    def lines(self) -> list[Line]:
        """Steps so far."""
        return read_lines(self.folder / STEPS)

    def log(self) -> str:
        """The end of what it wrote."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.log"))

    def whole(self, since: float) -> bool:
        """Whether both ranks take part again: for torchft, whose survivor goes on alone, both have done a step."""
        return self.kind != "torchft" or len({line.who for line in self.lines() if line.at > since}) == RANKS

    def _start_group(self, group: int) -> None:
        self._start(
            f"group-{group}", [sys.executable, __file__, self.kind, str(self.folder)], REPLICA_GROUP_ID=str(group)
        )

    def _start(self, name: str, command: list[str], **more: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.programs[name] = subprocess.Popen(command, stdout=log, stderr=log, env={**thread_limit(), **more})


def lighthouse() -> list[str]:
    """torchft's program, beside the interpreter or in the folder that `pip install --target` filled."""
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    spec, beside = find_spec("torchft"), shutil.which("torchft_lighthouse", path=folders)
    assert spec is not None
    assert spec.origin is not None
    return [beside] if beside else [sys.executable, str(Path(spec.origin).parents[1] / "bin" / "torchft_lighthouse")]


def installed(kind: str) -> bool:
    """Whether a peer can be run here."""
    return find_spec("torchft") is not None if kind == "torchft" else True


def await_steps(peer: Peer, count: int, since: float, timeout_s: float = 180) -> bool:
    """Wait for so many steps after a moment."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        peer.tend()
        if sum(line.at > since for line in peer.lines()) >= count and peer.whole(since):
            return True
        time.sleep(0.05)
    return False


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[1], Path(sys.argv[2]))
