"""The training that is saved, and five ways to save it, behind three calls: `save`, `guard`, `wait`."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

TOKENS = 64
"""Of one step: little, so that a step is short beside a save."""


class Training:
    """OPT-125M, or one with fewer layers, and fused AdamW, on one thread."""

    def __init__(self, layers: int) -> None:
        import torch

        from opt_api.architecture import PRESETS
        from opt_model.opt import OPT

        torch.set_num_threads(1)
        torch.manual_seed(1)
        self.shape = PRESETS["opt-125m"].architecture.model_copy(update={"layers": layers})
        self.model = OPT(self.shape)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self.tokens = torch.randint(4, 50_000, (1, TOKENS + 1))
        self.step(lambda: None)

    @property
    def bytes(self) -> int:
        """Of parameters and both moments."""
        return 3 * sum(p.nbytes for p in self.model.parameters())

    def step(self, guard: Callable[[], None]) -> float:
        """One optimiser step; returns its seconds."""
        began = time.perf_counter()
        self.model(self.tokens[:, :-1], self.tokens[:, 1:]).loss.backward()
        guard()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """What is saved, as one flat dictionary of tensors."""
        found: dict[str, Any] = {}
        for name, parameter in self.model.named_parameters():
            moments = self.optimiser.state[parameter]
            found |= {f"model.{name}": parameter.detach()}
            found |= {f"{kind}.{name}": moments[kind] for kind in ("exp_avg", "exp_avg_sq")}
        return found

    def digests(self) -> dict[str, str]:
        """Digest of each tensor of the state, as it is now."""
        return {name: digest(tensor) for name, tensor in self.state().items()}


def digest(tensor: Any) -> str:
    """Of its bits."""
    import torch
    import xxhash

    return xxhash.xxh3_64_hexdigest(tensor.detach().contiguous().view(torch.uint8).numpy().data)


class Saver:
    """A way to save; this one keeps nothing.

    Attributes:
        guarded: Seconds that `guard` waited since the last `save`.
    """

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder, self.number, self.guarded = training, folder, 0, 0.0

    def save(self) -> float:
        """Save; returns the seconds that the caller stood still."""
        self.number, self.guarded = self.number + 1, 0.0
        shutil.rmtree(self.folder / str(self.number - 2), ignore_errors=True)
        began = time.perf_counter()
        self.begin(self.folder / str(self.number))
        return time.perf_counter() - began

    def begin(self, place: Path) -> None:
        """Save, or begin to."""

    def guard(self) -> None:
        """Called before the weights change."""

    @property
    def done(self) -> bool:
        """Whether the last save is durable."""
        return True

    def wait(self) -> float:
        """Wait until the last save is durable; returns when it was (perf_counter)."""
        return time.perf_counter()

    def load(self) -> dict[str, Any]:
        """The state of the last save, read back."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was started."""


class TorchSave(Saver):
    """torch.save to one file."""

    def begin(self, place: Path) -> None:
        import torch

        place.mkdir()
        torch.save(self.training.state(), place / "state.pt")
        self._done = time.perf_counter()

    def wait(self) -> float:
        return self._done

    def load(self) -> dict[str, Any]:
        import torch

        found: dict[str, Any] = torch.load(self.folder / str(self.number) / "state.pt", weights_only=True)
        return found


class DcpSync(TorchSave):
    """torch.distributed.checkpoint.save."""

    def begin(self, place: Path) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(self.training.state(), checkpoint_id=place, no_dist=True)  # type: ignore[attr-defined]
        self._done = time.perf_counter()

    def load(self) -> dict[str, Any]:
        return load_dcp(self.training, self.folder / str(self.number))


class DcpAsync(Saver):
    """torch.distributed.checkpoint.async_save, in a thread or in a process."""

    kind = "THREAD"

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        import torch.distributed as dist

        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        dist.init_process_group("gloo", rank=0, world_size=1)
        self._running: Future[Any] | None = None
        self._done = 0.0

    def begin(self, place: Path) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

        kind = AsyncCheckpointerType[self.kind]
        save: Callable[..., Any] = dcp.async_save  # type: ignore[attr-defined]
        found = save(self.training.state(), checkpoint_id=place, async_checkpointer_type=kind)
        running = found if isinstance(found, Future) else found.upload_completion
        running.add_done_callback(lambda _: setattr(self, "_done", time.perf_counter()))
        self._running = running

    @property
    def done(self) -> bool:
        return self._running is None or self._running.done()

    def load(self) -> dict[str, Any]:
        return load_dcp(self.training, self.folder / str(self.number))

    def wait(self) -> float:
        assert self._running is not None
        self._running.result()
        while not self._done:
            time.sleep(0.001)
        done, self._done = self._done, 0.0
        return done

    def close(self) -> None:
        import torch.distributed as dist

        dist.destroy_process_group()


def load_dcp(training: Training, place: Path) -> dict[str, Any]:
    """Read a distributed checkpoint into new tensors."""
    import torch
    import torch.distributed.checkpoint as dcp

    found = {name: torch.empty_like(tensor) for name, tensor in training.state().items()}
    dcp.load(found, checkpoint_id=place, no_dist=True)  # type: ignore[attr-defined]
    return found


class DcpProcess(DcpAsync):
    kind = "PROCESS"


class Ours(Saver):
    """This project's saver, to a folder store."""

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        from opt_api.documents.manifests import Lineage
        from opt_api.documents.plan import CheckpointPlan
        from opt_api.training.checkpointing import Retention
        from opt_trainer.checkpoint.job import StoreAddress
        from opt_trainer.checkpoint.saver import CheckpointSaver, SaveSettings
        from opt_trainer.state import LocalTensor, RunIdentity

        plan = CheckpointPlan(
            interval_steps=1, assumed_stall_seconds=0.05, assumed_hours_between_faults=12, memory_interval_steps=1,
            memory_tier=False, retention=Retention(keep_last=1), export=False, upload_concurrency=4,
        )  # fmt: skip
        settings = SaveSettings(training.shape, StoreAddress(url=folder.as_uri()), plan)
        self._identity = RunIdentity("bench", 1, 0, 1, Lineage(code_version="bench"))
        self._saver, self._address = CheckpointSaver(self._identity, settings), settings.store
        self._tensors = [LocalTensor(name, t, tuple(t.shape), (0,) * t.dim()) for name, t in training.state().items()]
        self._saver.prepare(self._tensors)

    def begin(self, place: Path) -> None:
        from opt_trainer.state import LoopState

        self._saver.save(self._tensors, LoopState(step=self.number))
        self._watch = threading.Thread(target=self._note_end)
        self._watch.start()

    def _note_end(self) -> None:
        while self._saver.busy:
            time.sleep(0.005)
        self._done = time.perf_counter()

    def guard(self) -> None:
        self.guarded += self._saver.before_update()

    @property
    def done(self) -> bool:
        return not self._saver.busy

    def load(self) -> dict[str, Any]:
        import torch

        from opt_trainer.checkpoint.restore import CheckpointRestorer

        found = {t.name: replace(t, tensor=torch.empty_like(t.tensor)) for t in self._tensors}
        CheckpointRestorer(self._address.open(), self._identity, self.training.shape).restore(list(found.values()))
        return {name: t.tensor for name, t in found.items()}

    def wait(self) -> float:
        self._saver.wait()
        self._watch.join()
        return self._done

    def close(self) -> None:
        self._saver.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


SAVERS: dict[str, Callable[[Training, Path], Saver]] = {
    "ours": Ours,
    "torch.save": TorchSave,
    "DCP sync": DcpSync,
    "DCP async, thread": DcpAsync,
    "DCP async, process": DcpProcess,
}
