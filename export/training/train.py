"""Train a network on labelled frames: `python -m export.train --model icnet --dataset camvid --data DIR --out DIR`.

Half the pixels are seen near the frame's own size, half as large as the deployed 1024x2048 makes them, since one set
of weights serves both; of frames that are as large themselves all are seen near their own size. It goes on from the
checkpoint in --out where there is one.
"""

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from export.checkpoints.weights import read_weights
from export.models.enet import ENet
from export.own_normalization import normalization_of, note_of
from export.registry import Network, build_like, find
from export.training.augment import NEAR, SCALES
from export.training.batches import Batch, Frames, batches, load_split, normalize
from export.training.checkpoint import (
    State,
    load_checkpoint,
    load_start,
    metadata_of,
    pruned_text,
    pruning_of,
    save_checkpoint,
    save_weights,
    write_log,
)
from export.training.compiled import check_compiler, compile_network, compiled_loss
from export.training.curve import write_curve
from export.training.fake_quantize import quantize_training
from export.training.float32_layers import keep_in_float32
from export.training.losses import class_weights, pixel_loss, segmentation_loss
from export.training.options import command_of, parse
from export.training.recipe import Recipe, lr_share, make_optimizer, plan_epoch
from export.training.validate import deployed_scale, evaluate, measured_sizes, preprocess_at
from runtime.accuracy.datasets import open_dataset
from runtime.accuracy.metrics import mean_iou
from runtime.accuracy.seen import look, seen_in, tell
from runtime.cli import DONE, log, progress, show
from runtime.errors import WeightsError
from runtime.labels import Label
from runtime.threads import count

EMA_DECAY = 0.998
LONGEST_STEP_S = 10.0  # a step that took longer was paused; only this much of it counts as time spent
CHECKPOINT = "checkpoint.pt"
DECODER_PARTS = ("bottleneck4", "bottleneck5", "fullconv")  # of ENet


class Job(NamedTuple):
    """One training: what it trains, on what, how."""

    network: Network
    dataset: str
    classes: tuple[Label, ...]
    data: Frames
    val: Frames
    weights: torch.Tensor  # float32 (classes,), of the loss
    recipe: Recipe
    out: Path
    command: str
    validate_every: int
    start: Path | None
    device: str
    workers: int
    compiled: bool


def build_for(network: Network, classes: int, recipe: Recipe, start: Path | None) -> nn.Module:
    """The network with random weights, of the recipe's width, or of that of the weights it starts from."""
    if recipe.encoder_only:
        return ENet(classes, encoder_only=True)
    if recipe.width:
        return network.build(classes, width=recipe.width)
    return (
        build_like(network, classes, read_weights(start, network.build, named=False).tensors)
        if start
        else network.build(classes)
    )


def begin(network: Network, classes: int, recipe: Recipe, start: Path | None = None, device: str = "cpu") -> State:
    """A network with random weights of the seed, or those of `start`, its average and its optimizer.

    Raises:
        WeightsError: `start` cannot be read, or fits nothing of the network.
    """
    torch.manual_seed(recipe.seed)
    net = build_for(network, classes, recipe, start)
    if start:
        load_start(net, start, network.build)
    if recipe.qat:
        quantize_training(net, blocks=network.block > 1)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not recipe.decoder_only or name.startswith(DECODER_PARTS))
    for module in net.modules():
        if isinstance(module, nn.Dropout2d) and recipe.dropout is not None:
            module.p = recipe.dropout
    state = State(net, copy.deepcopy(net).eval(), make_optimizer(net, classes, recipe))
    if device == "cpu":
        keep_in_float32(net)
    return state


@torch.no_grad()
def update_ema(ema: nn.Module, net: nn.Module, step: int) -> None:
    """Move the averaged network towards the trained one; early on faster, so that it forgets its random start."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    averages, values = ([t for t in m.state_dict().values() if t.is_floating_point()] for m in (ema, net))
    torch._foreach_lerp_(averages, values, 1 - decay)


def computes_bfloat16(device: str) -> bool:
    """Whether the device has arithmetic of bfloat16; one without it would emulate it, slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def train_step(job: Job, state: State, batch: Batch) -> float:
    """One update; returns the loss.

    Raises:
        WeightsError: the loss is not finite; parameters, their average and the optimizer are as they were.
    """
    torch.manual_seed(job.recipe.seed * 1_000_003 + state.step)  # dropout too is a function of the step: no RNG to keep
    frames = normalize(batch.frames.to(job.device), job.network.normalization)
    halved = computes_bfloat16(job.device)
    with torch.autocast(job.device, torch.bfloat16, enabled=halved):
        # In bfloat16 at once: ENet's max-pooled frame would stay float32 from sum to sum, at twice the bytes.
        output = state.net(frames.bfloat16() if halved else frames)
    labels, weights = batch.labels.to(job.device), job.weights.to(job.device)
    recipe = job.recipe
    loss = segmentation_loss(
        output,
        labels,
        weights,
        dice=recipe.dice,
        ohem=recipe.ohem,
        loss_at=recipe.loss_at,
        align_corners=job.network.upsample == "align_corners",
        of_pixels=compiled_loss() if job.compiled else pixel_loss,
    )
    value = float(loss.item())
    if not math.isfinite(value):
        raise diverged(job, f"the loss of step {state.step + 1} is {value}")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    state.step += 1
    update_ema(state.ema, state.net, state.step)
    return value


def diverged(job: Job, what: str) -> WeightsError:
    """The error of a training whose weights are lost; raised before anything of them is written."""
    return WeightsError(
        f"training diverged: {what}. What earlier epochs left in {job.out} is kept; train in another folder with a "
        f"smaller --lr than {job.recipe.lr:g}: --out DIR (make: OUT=DIR)"
    )


def progress_of(job: Job, state: State) -> float:
    """How much of the training is done, 0..1: by steps, or by time spent where the recipe gives minutes."""
    if job.recipe.minutes:
        return state.spent_s / (60 * job.recipe.minutes)
    return state.step / (job.recipe.epochs * len(plan_epoch(len(job.data), job.recipe, 0)))


def left_s(job: Job, state: State) -> float:
    """Seconds of work until the training ends, from how long it took so far."""
    done = min(1.0, progress_of(job, state))
    if job.recipe.minutes:
        return 60 * job.recipe.minutes * (1 - done)
    return state.spent_s * (1 - done) / max(done, 1e-9)


def train_epoch(job: Job, state: State) -> float:
    """One pass over the frames, cut short where the time is spent; returns the mean loss.

    Raises:
        WeightsError: a loss, or what was learnt, is not finite.
    """
    state.net.train()
    losses = []
    steps = plan_epoch(len(job.data), job.recipe, state.epoch)
    start = time.monotonic()
    made = batches(job.data, steps, state.epoch, job.recipe.seed, job.workers)
    for batch in progress(made, f"epoch {state.epoch + 1}", len(steps), "step"):
        done = progress_of(job, state)
        if done >= 1:
            break
        for group in state.optimizer.param_groups:
            group["lr"] = job.recipe.lr * lr_share(done)
        losses.append(train_step(job, state, batch))
        start, begun = time.monotonic(), start
        state.spent_s += min(start - begun, LONGEST_STEP_S)
    # A finite loss of the last step does not tell that its gradient was.
    if not all(tensor.isfinite().all() for tensor in state.ema.state_dict().values()):
        raise diverged(job, f"after step {state.step} the weights are not finite")
    state.epoch += 1
    return float(np.mean(losses))


def validate(job: Job, state: State, sizes: dict[str, tuple[int, int]]) -> dict[str, float]:
    """mIoU of the averaged network at each of the sizes; leaves its weights in the job's folder."""
    mious = {}
    for name, size in sizes.items():
        frames = progress(job.val, f"val at {name}", unit="frame")
        matrix = evaluate(state.ema, frames, len(job.classes), preprocess_at(job.network, size), job.network.upsample)
        mious[name] = mean_iou(matrix)
    save_weights(weights_path(job), state.ema, metadata(job, mious))
    return mious


def weights_path(job: Job) -> Path:
    """Where a training leaves its weights."""
    part = "-encoder" if job.recipe.encoder_only else ""
    return job.out / f"{job.network.name}{part}-{job.dataset}.safetensors"


def metadata(job: Job, mious: dict[str, float]) -> dict[str, str]:
    """What the weights file says of itself, as safetensors wants it: strings."""
    started = metadata_of(job.start) if job.start else {}
    return {
        **{key: started[key] for key in ("pruned",) if key in started},
        "model": job.network.name,
        "dataset": job.dataset,
        "classes": json.dumps(job.classes),
        **(note_of(job.network.normalization) if job.network.own else {}),
        "source": f"trained on {job.dataset} by export.train{pruned_text(pruning_of(started))}",
        "seed": str(job.recipe.seed),
        "command": job.command,
        **{f"miou_{name}": f"{miou:.4f}" for name, miou in mious.items()},
    }


def finish_epoch(job: Job, state: State, loss: float, native: tuple[int, int]) -> None:
    """Validate where it is due; checkpoint and log."""
    miou = math.nan
    if state.epoch % job.validate_every == 0:
        start = time.monotonic()
        miou = validate(job, state, {"native": native})["native"]
        state.spent_s += min(time.monotonic() - start, 10 * LONGEST_STEP_S)
    left, rate = left_s(job, state), state.optimizer.param_groups[0]["lr"]
    state.rows.append(
        {
            "epoch": state.epoch,
            "step": state.step,
            "lr": f"{rate:.6f}",
            "loss": f"{loss:.4f}",
            "miou": f"{miou:.4f}",
            "left_s": f"{left:.0f}",
        }
    )
    save_checkpoint(job.out / CHECKPOINT, state, job.recipe)
    write_log(job.out / "log.csv", state.rows)
    write_curve(job.out / "curve.png", state.rows)
    shown = "" if math.isnan(miou) else f", val mIoU {100 * miou:.2f}"
    log(f"epoch {state.epoch}: loss {loss:.4f}{shown}, {left / 60:.1f} min left")


def train(job: Job) -> dict[str, float]:
    """Train, or go on from the checkpoint in the job's folder; leaves weights, log and checkpoint there.

    Returns:
        mIoU on the validation frames, by size: native, and 1024x2048.
    """
    torch.set_num_threads(min(count(), torch.get_num_threads()))  # it knows of no quota
    sizes = sizes_of(job)
    state = begin(job.network, len(job.classes), job.recipe, job.start, job.device)
    if job.compiled:
        compile_network(state.net)
    if (job.out / CHECKPOINT).exists():
        load_checkpoint(job.out / CHECKPOINT, state, job.recipe)
        log(f"goes on after epoch {state.epoch}")
    while progress_of(job, state) < 1:
        finish_epoch(job, state, train_epoch(job, state), sizes["native"])
    return validate(job, state, sizes)


def sizes_of(job: Job) -> dict[str, tuple[int, int]]:
    """What the finished network is measured at: of one that is not whole only the frames' own size."""
    sizes = measured_sizes(job.network, job.val[0][0])
    part = job.recipe.encoder_only or job.recipe.decoder_only
    return {"native": sizes["native"]} if part else sizes


def is_deployed_larger(frame: np.ndarray) -> bool:
    """Whether the deployed size shows this frame larger than its near views do: what wide views are for."""
    return deployed_scale(frame) > SCALES[NEAR].mean[1]


def job_of(args: argparse.Namespace, recipe: Recipe, command: str) -> Job:
    """Everything loaded that the training needs.

    Raises:
        DatasetError: a training frame, or a validation frame of those kept in memory, cannot be read or does not fit
            its label.
    """
    said = normalization_of(recipe.normalization) if recipe.normalization else None
    network, dataset = find(args.model, said), open_dataset(args.dataset, args.data)
    data, val = load_split(dataset, "train"), load_split(dataset, "val")
    # Frames too, of which the weights need none: one that cannot be read ends a training here, not after hours.
    labels = (label for _, label in progress(data, "class weights", unit="frame"))
    seen = seen_in(labels, len(data))
    tell(seen, dataset.classes, f"{dataset.name} train")
    look(dataset.pairs("val"), dataset.classes, f"{dataset.name} val")
    weights = class_weights(seen.counts[: len(dataset.classes)], recipe.weight_offset)
    recipe = dataclasses.replace(recipe, dataset=dataset.name)
    if args.wide is None and not is_deployed_larger(data[0][0]):
        recipe = dataclasses.replace(recipe, wide=0.0)
    return Job(
        network,
        dataset.name,
        dataset.classes,
        data,
        val,
        weights,
        recipe,
        args.out,
        command,
        args.validate_every,
        args.start,
        args.device,
        args.workers,
        args.compile,
    )


def main(argv: Sequence[str]) -> int:
    """The command; prints the validation mIoU."""
    args, recipe = parse(argv)
    job, found = trained(args, recipe, command_of(argv))
    for size, miou in found.items():
        show(f"{args.model} {args.dataset} val at {size}: mIoU {100 * miou:.2f}, {len(job.val)} frames")
    return DONE


def trained(args: argparse.Namespace, recipe: Recipe, command: str) -> tuple[Job, dict[str, float]]:
    """What the options ask for, done: the job, and what `train` returns of it.

    Raises:
        PipelineError: an option, the data set or the weights are not as they must be.
    """
    if args.compile:
        check_compiler()
    args.out.mkdir(parents=True, exist_ok=True)
    job = job_of(args, recipe, command)
    return job, train(job)
