from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest

from calib import speed
from calib.graphs import load_graph
from calib.placement import layers
from calib.speed import ALPHA, Timing, Variants, slowed, stages
from calib.table import load_table, save_table
from engines import openvino_build
from engines.openvino_sums import sums_saturate
from runtime.backend import open_backend
from runtime.cli import DONE, USAGE
from runtime.manifest import read_manifest

FOLDED = 1e-5  # of the logits' range
ROUNDED = 0.012  # likewise, in the mean: as far as two backends may be apart (`test_qdq.APART`)


@pytest.fixture
def variants(graphs, tables, tmp_path):
    return Variants(*load_graph(graphs("enet")["fp16"], "fp16"), tables("enet"), "openvino", tmp_path)


def told(monkeypatch, shares, p=ALPHA / 2):
    """Timings by the stages that the candidate leaves in FP16: what is not told of takes the same time."""
    monkeypatch.setattr(Variants, "engine", lambda self, left: Path(",".join(stages(left))))
    monkeypatch.setattr(
        Variants, "compare", lambda self, base, candidate, rounds: Timing(shares.get(str(candidate), 1.0), p)
    )


def test_layers_belong_to_the_stage_that_their_name_begins_with():
    names = ["bottleneck2_3.expand", "bottleneck2_0.project", "conv3_1.reduce", "blocks"]
    assert stages(names) == {
        "blocks": ("blocks",),
        "bottleneck2": ("bottleneck2_0.project", "bottleneck2_3.expand"),
        "conv3": ("conv3_1.reduce",),
    }


def test_stages_that_are_faster_in_fp16_are_left_if_they_are_together(variants, monkeypatch):
    alone = {"blocks": 0.95, "bottleneck5": 0.9, "bottleneck4": 0.998}
    told(monkeypatch, {**alone, "blocks,bottleneck5": 0.86})
    assert set(stages(slowed(variants, 5))) == {"blocks", "bottleneck5"}
    told(monkeypatch, alone)
    assert slowed(variants, 5) == ()


def test_a_stage_that_only_seems_faster_is_not_left(variants, monkeypatch):
    told(monkeypatch, {"blocks": 0.5}, p=2 * ALPHA)
    assert slowed(variants, 5) == ()


def test_engines_run_in_fp16_what_they_are_told_to(variants):
    names = sorted(set(layers(variants.model.graph).values()))
    executed = {left: read_manifest(variants.engine(left)).executed["int8"] for left in [(), ("blocks",), ("initial",)]}
    assert executed["blocks",] == executed["initial",] == executed[()] - 1
    assert "int8" not in read_manifest(variants.engine(names)).executed


@pytest.fixture(scope="module")
def logits(graphs, tables, frame, tmp_path_factory):
    """ENet's logits from an engine as the builder makes it now, in INT8 or not; `as_it_is` is built but once."""

    def of(in_int8):
        given = load_graph(graphs("enet")["fp16"], "fp16")
        variants = Variants(*given, tables("enet"), "openvino", tmp_path_factory.mktemp("variants"))
        left = () if in_int8 else sorted(set(layers(variants.model.graph).values()))
        with open_backend(variants.engine(left)) as engine:
            return engine.logits(frame)

    return SimpleNamespace(now=of, as_it_is=cache(of))


@pytest.mark.parametrize("in_int8", [True, False])
@pytest.mark.parametrize("rewrite", ["read_in_blocks", "view_windows", "logits_type"])
def test_what_the_builder_rewrites_of_enet_changes_no_value(logits, monkeypatch, in_int8, rewrite):
    plain = (lambda execution: openvino.Type.f32) if rewrite == "logits_type" else lambda *_: None
    monkeypatch.setattr(
        openvino_build, "share_of_time", lambda *_: 1.0
    )  # which form is built must not hang on the clock
    found = [logits.as_it_is(in_int8)]
    monkeypatch.setattr(openvino_build, rewrite, plain)
    found.append(logits.now(in_int8))
    apart, reach = np.abs(found[0] - found[1]), np.ptp(found[0])
    if rewrite == "read_in_blocks" and in_int8 and sums_saturate():
        # Folded columns have other neighbours: other weights are made smaller, and what is rounded differs.
        assert apart.mean() <= ROUNDED * reach
        return
    # In float the columns of the frame that were folded are summed in another order; 8-bit products have no order.
    rounding = FOLDED if rewrite == "read_in_blocks" and not in_int8 else 0
    assert apart.max() <= rounding * reach and found[0].std() > 0


@pytest.mark.parametrize("options", [("--rounds", "8"), ("--backend", "onnxruntime")])
def test_a_measurement_that_can_tell_nothing_is_a_usage_error(graphs, options):
    with pytest.raises(SystemExit) as caught:
        speed.main([str(graphs("enet")["fp16"]), *options])
    assert caught.value.code == USAGE


def test_two_engines_are_timed_in_turns(variants):
    base = variants.engine(())
    timing = variants.compare(base, base, 6)
    assert 0.2 < timing.share < 5 and not timing.faster


@pytest.mark.parametrize(("left", "changed"), [((), False), (("blocks",), True)])
def test_the_command_writes_a_table_only_where_something_is_left(
    graphs, tables, tmp_path, monkeypatch, capsys, left, changed
):
    monkeypatch.setattr(speed, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(speed, "slowed", lambda variants, rounds: left)
    save_table(tmp_path / "table.json", tables("enet"))
    graph = str(graphs("enet")["fp16"])
    assert speed.main([graph, "--table", str(tmp_path / "table.json"), "--backend", "openvino"]) == DONE
    path = Path(capsys.readouterr().out.splitlines()[-1])
    assert load_table(path).float_layers == left and (path.parent == tmp_path / "tables") == changed


def test_a_share_below_the_least_gain_is_no_gain():
    assert not Timing(1 - speed.LEAST_GAIN / 2, 0.0).faster and Timing(0.9, 0.0).faster
