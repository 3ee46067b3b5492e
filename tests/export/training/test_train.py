import csv
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from export.registry import find
from export.training import batches
from export.training import train as training
from export.training.batches import make_batch
from export.training.checkpoint import metadata_of, save_weights
from export.training.recipe import Recipe, plan_epoch
from export.training.train import begin, main, progress_of, train, train_epoch, train_step
from export.training.validate import evaluate, native_size, preprocess_at
from runtime.cli import DONE
from runtime.errors import DatasetError, WeightsError
from runtime.labels import IGNORED

RECIPE = Recipe("adamw", 1e-3, 1e-2, 4, (32, 32), 1.1, seed=3, epochs=2, minutes=0.0)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 2)):
        for folder in (split, f"{split}annot"):
            (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(count):
            label = np.repeat(rng.integers(0, 12, (6, 1)), 8, axis=0).astype(np.uint8) * np.ones((1, 64), np.uint8)
            cv2.imwrite(str(tmp_path / "data" / split / f"{i}.png"), np.dstack([label * 20] * 3))
            cv2.imwrite(str(tmp_path / "data" / f"{split}annot" / f"{i}.png"), label)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def small_deployed_size(monkeypatch):
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", (64, 128))


def options(data, out, *more, model="enet", epochs=2):
    given = ("--model", model, "--dataset", "camvid", "--data", data, "--out", out, "--epochs", epochs, "--batch", 4)
    return [str(part) for part in (*given, "--crop", "32x32", "--validate-every", 1, *more)]


def read(path):
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def interrupt_after(monkeypatch, epochs):
    finish = training.finish_epoch

    def finish_then_stop(job, state, loss, native):
        finish(job, state, loss, native)
        if state.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "finish_epoch", finish_then_stop)


@pytest.mark.parametrize(
    ("model", "optimizer"), [("enet", "adamw"), ("icnet", "sgd"), pytest.param("icnet", "muon", marks=pytest.mark.slow)]
)
def test_a_resumed_training_ends_in_the_same_bytes(model, optimizer, data, tmp_path, monkeypatch):
    whole, halves = (options(data, tmp_path / name, "--optimizer", optimizer, model=model) for name in "ab")
    assert main(whole) == DONE
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            main(halves)
    torch.rand(5)  # whatever the process drew before must not matter
    assert main(halves) == DONE
    a, b = (read(tmp_path / name / f"{model}-camvid.safetensors")[0] for name in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    rows = list(csv.DictReader((tmp_path / "b" / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_frames_that_are_read_when_needed_train_to_the_same_bytes(data, tmp_path, monkeypatch):
    assert main(options(data, tmp_path / "memory/out")) == DONE
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    assert main(options(data, tmp_path / "disk/out", "--workers", 3)) == DONE
    a, b = (read(tmp_path / folder / "out/enet-camvid.safetensors") for folder in ("memory", "disk"))
    assert a[0].keys() == b[0].keys() and all(torch.equal(a[0][key], b[0][key]) for key in a[0])
    assert [a[1][key] for key in ("miou_native", "miou_64x128")] == [
        b[1][key] for key in ("miou_native", "miou_64x128")
    ]


def test_a_frame_that_cannot_be_read_ends_a_training_before_its_first_step(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", None)
    (data / "train/6.png").write_bytes(b"no image")
    for limit in (batches.IN_MEMORY, 0):
        monkeypatch.setattr(batches, "IN_MEMORY", limit)
        with pytest.raises(DatasetError, match=r"6\.png is missing or is not an image"):
            main(options(data, tmp_path / "out"))


def loaded(*given, **named):
    args, recipe = training.parse(options(*given, **named))
    job = training.job_of(args, recipe, "")
    return job, begin(job.network, len(job.classes), job.recipe, job.start)


@pytest.mark.parametrize(
    ("deployed", "more", "wide", "sizes"),
    [
        ((64, 128), [], 1 / 3, {"native": (48, 64), "64x128": (64, 128)}),
        ((48, 64), [], 0, {"native": (48, 64)}),
        ((64, 72), [], 0, {"native": (48, 64), "64x72": (64, 72)}),  # 1.2 times as large: near views reach 1.5
        ((40, 48), [], 0, {"native": (48, 64), "40x48": (40, 48)}),
        ((48, 64), ["--wide", 0.2], 0.2, {"native": (48, 64)}),
    ],
)
def test_wide_views_and_a_second_size_are_for_frames_smaller_than_deployed(
    deployed, more, wide, sizes, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("export.training.validate.DEPLOYED_SIZE", deployed)
    job, _ = loaded(data, tmp_path, *more)
    assert job.recipe.wide == wide and training.sizes_of(job) == sizes


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_training_that_diverges_ends_with_the_files_of_its_last_good_epoch(data, tmp_path, monkeypatch):
    out, calls = tmp_path / "out", []
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            main(options(data, out))
    before = contents(out)
    assert before.keys() == {"checkpoint.pt", "enet-camvid.safetensors", "log.csv", "curve.png"}

    def lost(output, *_, **__):
        calls.append(output)
        return output.sum() * (np.inf if len(calls) == 2 else 1)

    monkeypatch.setattr(training, "segmentation_loss", lost)
    with pytest.raises(WeightsError, match=r"step 4 is -?inf.*smaller --lr than 0.003: --out DIR \(make: OUT=DIR\)"):
        main(options(data, out))
    assert len(calls) == 2 and contents(out) == before


def test_a_loss_that_is_not_finite_changes_neither_the_network_nor_its_average(data, tmp_path, monkeypatch):
    job, state = loaded(data, tmp_path)
    monkeypatch.setattr(training, "segmentation_loss", lambda output, *_, **__: output.sum() * np.nan)
    step = plan_epoch(len(job.data), job.recipe, 0)[0]
    before = [tensor.clone() for tensor in (*state.net.parameters(), *state.ema.state_dict().values())]
    with pytest.raises(WeightsError, match="the loss of step 1 is nan"):
        train_step(job, state, make_batch(job.data, step, 0, 0))
    after = (*state.net.parameters(), *state.ema.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert state.step == 0 and not state.optimizer.state and all(p.grad is None for p in state.net.parameters())


def test_a_last_step_that_loses_the_weights_is_not_kept(data, tmp_path, monkeypatch):
    # The root of 0 is finite, its gradient is not.
    monkeypatch.setattr(training, "segmentation_loss", lambda output, *_, **__: (output.float() * 0).sum().sqrt())
    with pytest.raises(WeightsError, match="after step 1 the weights are not finite"):
        main(options(data, tmp_path / "out", "--batch", 8))
    assert contents(tmp_path / "out") == {}


def test_an_epoch_has_a_bar_on_a_terminal_alone(data, tmp_path, monkeypatch, capsys):
    job, state = loaded(data, tmp_path)
    capsys.readouterr()  # what the labels hold
    train_epoch(job, state)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train_epoch(job, state)
    shown = capsys.readouterr().err
    assert "epoch 2: 100%" in shown and "2/2" in shown and "step/s]" in shown


def test_the_command_reports_both_sizes_and_leaves_weights_that_load(data, tmp_path, capsys):
    assert main(options(data, tmp_path / "out", epochs=1)) == DONE
    printed = capsys.readouterr().out
    assert "val at native: mIoU" in printed and "val at 64x128: mIoU" in printed and "2 frames" in printed
    tensors, metadata = read(tmp_path / "out/enet-camvid.safetensors")
    net = find("enet").build(11)
    missing = net.load_state_dict(tensors, strict=False).missing_keys
    assert all(key.endswith("num_batches_tracked") for key in missing)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert all(t.dtype == (torch.float16 if t.ndim > 1 else torch.float32) for t in tensors.values())
    assert {"model", "dataset", "classes", "seed", "command", "miou_native", "miou_64x128"} <= metadata.keys()


# A network that has learnt nothing gives every class of 11 less than 0.7: a lower threshold tells pixels apart.
@pytest.mark.parametrize("losses", [["--dice", "3"], ["--ohem", "0.05"], ["--dice", "3", "--ohem", "0.05"]])
@pytest.mark.parametrize("model", ["enet", "icnet"])
def test_each_loss_trains_and_changes_what_is_learnt(model, losses, data, tmp_path):
    learnt = []
    for more in (["--dice", "0"], ["--dice", "0", *losses]):
        job, state = loaded(data, tmp_path, *more, model=model)
        assert np.isfinite(train_epoch(job, state))
        assert all(torch.isfinite(tensor).all() for tensor in state.net.state_dict().values())
        learnt.append(torch.cat([p.detach().flatten() for p in state.net.parameters()]))
    assert not torch.equal(*learnt)


def test_a_training_starts_at_the_width_of_pruned_weights_and_tells_what_they_were(data, tmp_path):
    start, out = tmp_path / "start.safetensors", tmp_path / "out"
    pruned = {"pruned": '[[8, 4, "abc"]]', "dataset": "camvid"}
    save_weights(start, find("icnet").build(11, width=4), pruned)
    assert main(options(data, out, "--start", start, model="icnet", epochs=1)) == DONE
    tensors, metadata = read(out / "icnet-camvid.safetensors")
    assert tensors["conv5_4.conv.weight"].shape == (32, 128, 1, 1)
    assert metadata["pruned"] == pruned["pruned"] and metadata["source"].endswith(", pruned from width 8 to 4")
    assert metadata_of(out / "absent") == metadata_of(data / "train/0.png") == {}


def test_an_icnet_of_any_width_is_trained(data, tmp_path):
    assert main(options(data, tmp_path, "--width", 4, model="icnet", epochs=1)) == DONE
    assert read(tmp_path / "icnet-camvid.safetensors")[0]["conv1_1.conv.weight"].shape[0] == 4


def test_a_training_on_another_data_set_is_not_gone_on_with(data, tmp_path):
    assert main(options(data, tmp_path / "out", epochs=1)) == DONE
    shutil.copytree(data, tmp_path / "tramway")
    (tmp_path / "tramway/classes.json").write_text(
        '{"classes": [{"name": "rail", "color": [1, 2, 3]}], "ignored": [1]}'
    )
    for label in (tmp_path / "tramway").glob("*annot/*.png"):
        cv2.imwrite(str(label), np.zeros((6, 64), np.uint8))
    for frame in (*(tmp_path / "tramway/train").iterdir(), *(tmp_path / "tramway/val").iterdir()):
        cv2.imwrite(str(frame), np.zeros((6, 64, 3), np.uint8))
    with pytest.raises(WeightsError, match="another dataset;"):
        main(options(tmp_path / "tramway", tmp_path / "out", "--dataset", "own", epochs=1))


def test_the_encoder_is_trained_first_and_the_network_starts_from_it(data, tmp_path):
    assert main(options(data, tmp_path / "first", "--encoder-only", epochs=1)) == DONE
    weights = tmp_path / "first/enet-encoder-camvid.safetensors"
    args, recipe = training.parse(options(data, tmp_path / "second", "--start", weights))
    job = training.job_of(args, recipe, "")
    started = begin(job.network, 11, recipe, job.start).net.state_dict()
    random = begin(job.network, 11, recipe).net.state_dict()
    encoder, _ = read(weights)
    assert torch.equal(started["bottleneck3_8.conv.weight"], encoder["bottleneck3_8.conv.weight"])
    assert torch.equal(started["bottleneck3_8.conv_bn.running_var"], encoder["bottleneck3_8.conv_bn.running_var"])
    assert torch.equal(started["fullconv.weight"], random["fullconv.weight"])


def test_the_decoder_alone_leaves_the_encoder_as_it_started(data, tmp_path):
    job, state = loaded(data, tmp_path, "--decoder-only")
    before = {name: parameter.clone() for name, parameter in state.net.named_parameters()}
    train_epoch(job, state)
    moved = {name.split(".")[0] for name, value in state.net.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"bottleneck4_0", "bottleneck4_1", "bottleneck4_2", "bottleneck5_0", "bottleneck5_1", "fullconv"}


def test_weights_of_another_network_are_no_start(data, tmp_path):
    save_weights(tmp_path / "icnet.safetensors", find("icnet").build(3), {"dataset": "camvid"})
    with pytest.raises(WeightsError, match="no tensor in common"):
        begin(find("enet"), 11, RECIPE, tmp_path / "icnet.safetensors")
    with pytest.raises(WeightsError, match="does not exist"):
        main(options(data, tmp_path / "out", "--start", tmp_path / "absent.safetensors"))


def test_minutes_end_a_training_by_the_time_spent(data, tmp_path):
    job, state = loaded(data, tmp_path, "--minutes", 1)
    state.spent_s = 30.0
    assert progress_of(job, state) == 0.5
    state.spent_s = 60.0
    assert progress_of(job, state) == 1


def test_training_lowers_the_loss(data, tmp_path):
    job, state = loaded(data, tmp_path, "--dropout", 0, "--lr", 0.01, "--dice", 0)
    state.net.train()
    step = plan_epoch(len(job.data), job.recipe, 0)[0]
    losses = [
        train_step(job, state, make_batch(job.data, step, 0, job.recipe.seed)) for _ in range(25)
    ]  # the same views each time: the epoch does not move
    assert losses[-1] < losses[0] / 1.2


def test_logits_are_brought_back_to_each_labels_size():
    class Sign(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.avg_pool2d(torch.cat((0.5 - x[:, :1], x[:, :1] - 0.5), dim=1), 4)

    label = np.zeros((40, 72), np.uint8)
    label[:, 36:] = 1
    label[0] = IGNORED
    frame = np.dstack([(label == 1).astype(np.uint8) * 255] * 3)
    matrix = evaluate(Sign(), [(frame, label)], 2, preprocess_at(find("icnet"), (32, 64)))
    assert matrix.sum() == 39 * 72 and (np.diag(matrix) > 0.9 * 39 * 36).all()


def test_the_native_size_is_the_nearest_that_the_network_takes():
    frame = np.zeros((360, 480, 3), np.uint8)
    assert [native_size(find(name), frame) for name in ("icnet", "enet")] == [(352, 480), (360, 480)]


def test_training_a_finished_job_again_only_measures(data, tmp_path):
    args, recipe = training.parse(options(data, tmp_path / "out", epochs=1))
    args.out.mkdir()
    job = training.job_of(args, recipe, "")
    assert train(job) == train(job)


def learnt_after_a_pass(options_given):
    args, recipe = training.parse(options_given)
    job = training.job_of(args, recipe, "")
    state = begin(job.network, len(job.classes), recipe, job.start)
    assert np.isfinite(train_epoch(job, state))
    return torch.cat([p.detach().flatten() for p in state.net.parameters()])


@pytest.mark.parametrize("model", ["enet", "icnet"])
def test_quantisation_aware_training_goes_on_from_weights_and_leaves_ordinary_ones(model, data, tmp_path):
    start = tmp_path / "start.safetensors"
    torch.manual_seed(0)
    save_weights(start, find(model).build(11), {"dataset": "camvid"})
    given = options(data, tmp_path / "out", "--start", start, model=model, epochs=1)
    assert not torch.equal(learnt_after_a_pass(given), learnt_after_a_pass([*given, "--qat"]))
    assert main([*given, "--qat"]) == DONE
    tensors, metadata = read(tmp_path / f"out/{model}-camvid.safetensors")
    assert tensors.keys() == read(start)[0].keys() and "--qat" in metadata["command"]


@pytest.mark.parametrize("has", [True, False])
def test_a_step_computes_in_bfloat16_where_the_cpu_has_it_alone(has, data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    seen = []
    monkeypatch.setattr(training, "segmentation_loss", lambda output, *_, **__: seen.append(output) or output.sum())
    train_epoch(*loaded(data, tmp_path, epochs=1))
    assert {output.dtype for output in seen} == {torch.bfloat16 if has else torch.float32}


@pytest.mark.parametrize("compiled", [False, True])
def test_the_command_compiles_network_and_loss_where_it_is_asked_to(compiled, data, tmp_path, monkeypatch):
    asked = []
    loss = training.pixel_loss
    monkeypatch.setattr(training, "check_compiler", lambda: asked.append("compiler"))
    monkeypatch.setattr(training, "compile_network", lambda net: asked.append(type(net).__name__))
    monkeypatch.setattr(training, "compiled_loss", lambda: lambda *a, **k: asked.append("loss") or loss(*a, **k))
    assert main(options(data, tmp_path / "out", *["--compile"] * compiled, epochs=1)) == DONE
    steps = len(plan_epoch(7, RECIPE, 0))
    assert asked == (["compiler", "ENet", *["loss"] * steps] if compiled else [])
