"""One training loop each: ours, transformers' model under a plain loop, under its Trainer. Same weights, same batches.

Every one runs AdamW (fused), clips to 1.0 and reports the seconds of each step. bfloat16 means float32 weights with
bfloat16 arithmetic: our working copy, autocast for the others.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from train_rounds import Gate

from opt_api.architecture import PRESETS, Architecture
from opt_api.documents.plan import Plan, PrecisionPlan
from opt_api.resolve import resolve
from opt_api.resources import OPTTraining
from opt_api.training.optimisation import LossScale
from opt_model.exchange.reader import Weights
from opt_model.exchange.tensors import tensor_of
from opt_model.exchange.writer import write
from opt_model.initial import initialise
from opt_model.opt import OPT
from opt_trainer.loop.agreement import Flags, agree
from opt_trainer.loop.step import TrainStep
from opt_trainer.parallelism.build import WorkerModel, build
from opt_trainer.recipe.optimiser import optimiser_of

RATE, BETAS, EPSILON, DECAY, CLIP = 6e-4, (0.9, 0.95), 1e-8, 0.1, 1.0


@dataclass(frozen=True)
class Job:
    """What all runners of a case have in common."""

    weights: str
    preset: str = "opt-125m"
    layers: int = 12
    sequences: int = 2
    length: int = 256
    steps: int = 5
    warmup: int = 2
    dtype: str = "float32"
    dropout: float = 0.0
    compile: bool = False
    device: str = "cpu"
    gate: str = ""
    per_round: int = 2

    @property
    def shape(self) -> Architecture:
        """Of the preset, with fewer layers in a quick run."""
        change = {"dropout": self.dropout, "attention_dropout": self.dropout, "layers": self.layers}
        return PRESETS[self.preset].architecture.model_copy(update=change)

    def before(self, step: int) -> None:
        """Wait for this runner's turn, where a round begins."""
        Gate(self.gate, self.warmup, self.per_round).before(step)

    def batch(self, step: int) -> Tensor:
        """Tokens of a step, [sequences, length + 1]."""
        generator = torch.Generator().manual_seed(step)
        size = (self.sequences, self.length + 1)
        return torch.randint(4, self.shape.vocabulary_size, size, generator=generator).to(self.device)


@dataclass
class Result:
    """Of one run: seconds of each timed step, and all losses."""

    seconds: list[float]
    losses: list[float]


Step = Callable[[int], float]


def write_weights(folder: Path, job: Job) -> None:
    """The common starting point, as a Hugging Face directory."""
    shape = job.shape
    model = OPT(shape)
    initialise(model, shape, 1)
    write(folder, shape, ((name, parameter.detach()) for name, parameter in model.named_parameters()))


def timed_steps(job: Job, step: Step) -> Result:
    """Warm up, then time every step by itself."""
    result = Result([], [])
    for number in range(1, job.warmup + job.steps + 1):
        job.before(number)
        began = time.perf_counter()
        result.losses.append(step(number))
        if job.device == "cuda":
            torch.cuda.synchronize()
        if number > job.warmup:
            result.seconds.append(time.perf_counter() - began)
    return result


def plan_of(job: Job, workers: int = 1, **layout: Any) -> Plan:
    """Our plan for the job."""
    tokens = job.sequences * job.length
    model = {"preset": job.preset, "layers": job.layers, "dropout": job.dropout, "attentionDropout": job.dropout}
    parallelism = {"device": job.device, "devicesPerHost": workers, "compile": job.compile, **layout}
    if job.device == "cuda":
        parallelism["deviceModel"] = "h200-141gb"
    spec = {
        "model": model,
        "data": {"dataset": "file:///none/manifest.json", "sequenceLength": job.length},
        "optimisation": {"batchTokens": tokens, "totalTokens": 1000 * tokens, "warmupTokens": tokens},
        "parallelism": parallelism,
        "precision": {"compute": job.dtype if job.dtype != "float16" else "bfloat16"},
        "pods": {"resources": {"memory": "64Gi"}},
    }
    document = {"apiVersion": "opt-operator.io/v1alpha1", "kind": "OPTTraining", "metadata": {"name": "benchmark"}}
    plan = resolve(OPTTraining.model_validate({**document, "spec": spec}))
    if job.dtype != "float16":
        return plan
    return plan.model_copy(update={"precision": PrecisionPlan(compute="float16", loss_scale=LossScale(initial=4096.0))})


def ours(job: Job) -> Result:
    """Our train step, alone."""
    plan = plan_of(job)
    worker = build(plan, 0)
    take_weights(worker, Path(job.weights))
    return timed_steps(job, our_step(job, plan, worker))


def take_weights(worker: WorkerModel, folder: Path) -> None:
    """This worker's boxes of the common weights."""
    weights = Weights.open(folder)
    for part in worker.parts:
        where = tuple(slice(o, o + n) for o, n in zip(part.box.offset, part.box.shape, strict=True))
        part.master.copy_(tensor_of(weights.map(part.name))[where])
    worker.publish()


def our_step(job: Job, plan: Plan, worker: WorkerModel) -> Step:
    """One step as the loop does it: passes, agreement, update."""
    train = TrainStep(plan, worker, optimiser_of(worker, plan))
    share = plan.share(worker.place.data_rank)
    scale = plan.precision.loss_scale.initial if plan.precision.loss_scale else 1.0

    def step(number: int) -> float:
        measured = train.compute(number, job.batch(number)[share.start : share.stop], scale)
        sums = agree(measured, Flags(), alone=worker.mesh is None)
        train.update(RATE, sums.gradient_square**0.5 / scale, CLIP, scale)
        return sums.loss / plan.tokens_per_step / worker.place.tensor

    return step


def their_model(job: Job) -> Any:
    """transformers' model with the same weights and dropout."""
    from transformers import OPTForCausalLM

    change = {"dropout": job.dropout, "attention_dropout": job.dropout, "dtype": torch.float32}
    model = OPTForCausalLM.from_pretrained(job.weights, attn_implementation="sdpa", **change).to(job.device).train()
    return torch.compile(model) if job.compile else model


def autocast(job: Job) -> AbstractContextManager[Any]:
    """How the peers compute in half the width."""
    if job.dtype == "float32":
        return nullcontext()
    return torch.autocast(job.device, getattr(torch, job.dtype))


def their_adam(model: Any) -> torch.optim.Optimizer:
    """The same optimiser, fused."""
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=DECAY, fused=True)


def transformers_loop(job: Job) -> Result:
    """The plain loop that most people write."""
    model = their_model(job)
    adam = their_adam(model)
    scaler = torch.amp.GradScaler(job.device, enabled=job.dtype == "float16")

    def step(number: int) -> float:
        torch.manual_seed(number)
        block = job.batch(number)
        with autocast(job):
            loss = model(input_ids=block[:, :-1], labels=block[:, :-1], shift_labels=block[:, 1:].contiguous()).loss
        scaler.scale(loss).backward()
        scaler.unscale_(adam)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        scaler.step(adam)
        scaler.update()
        adam.zero_grad()
        return float(loss)

    return timed_steps(job, step)


def transformers_trainer(job: Job) -> Result:
    """transformers' Trainer; it leaves biases and norms out of the weight decay: only first losses are comparable."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    result, began = Result([], []), [0.0]

    class Watch(TrainerCallback):
        def on_step_begin(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            job.before(state.global_step + 1)
            began[0] = time.perf_counter()

        def on_step_end(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step > job.warmup:
                result.seconds.append(time.perf_counter() - began[0])

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            result.losses += [logs["loss"]] if "loss" in logs else []

    blocks = [row for step in range(1, job.warmup + job.steps + 1) for row in job.batch(step).cpu()]
    rows = [{"input_ids": row[:-1], "labels": row[:-1], "shift_labels": row[1:]} for row in blocks]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=job.warmup + job.steps,
            per_device_train_batch_size=job.sequences,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            weight_decay=DECAY,
            max_grad_norm=CLIP,
            optim="adamw_torch_fused",
            use_cpu=job.device == "cpu",
            bf16=job.dtype == "bfloat16",
            fp16=job.dtype == "float16",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            train_sampling_strategy="sequential",
        )
        trainer = Trainer(their_model(job), arguments, train_dataset=rows, callbacks=[Watch()])
        trainer.train()
    return result


RUNNERS: dict[str, Callable[[Job], Result]] = {
    "ours": ours,
    "transformers": transformers_loop,
    "transformers Trainer": transformers_trainer,
}
