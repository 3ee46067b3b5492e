"""Who is measured beside an engine: what each opens, and by whose floor it is judged."""

from pathlib import Path

import pytest

from runtime.measure.peers import FP32_MASK, PEERS, Files, computed_in, jobs, libraries
from runtime.measure.worker import ENGINE

ALL = Files(*map(Path, ("a.engine", "plain.engine", "t.pt2", "n.engine", "o.engine", "other/bin/python")))


def test_with_all_files_every_peer_has_a_job_and_ours_is_the_first():
    found = jobs(ALL, "pad")
    assert next(iter(found)) == ENGINE and set(found) == {ENGINE, *PEERS} and FP32_MASK in found
    assert {job.fit for job in found.values()} == {"pad"}
    assert found["nncf"].kind == ENGINE and found["onnxruntime-int8"].kind == "onnxruntime"
    assert {name for name, job in found.items() if job.python == ALL.python} == {"mnn", "ncnn"}


def test_a_peer_whose_file_is_not_there_has_no_job():
    assert set(jobs(Files(ALL.engine, ALL.plain), None)) == {ENGINE, "openvino", "onnxruntime"}


@pytest.mark.parametrize(
    ("name", "executed", "expected"),
    [
        (ENGINE, {"bf16": 60, "int8": 12}, "int8"),
        (ENGINE, {"fp32": 2, "bf16": 60}, "bf16"),
        ("nncf", {"int8": 60}, "int8"),
        ("openvino", {}, "bf16"),
        ("onnxruntime", {}, "fp32"),
        ("onnxruntime-int8", {}, "int8"),
        ("mnn", {}, "fp32"),
    ],
)
def test_a_path_is_judged_by_the_floor_of_what_it_computes_in(name, executed, expected):
    assert computed_in(name, executed, {"fp32": 1.0, "bf16": 2.0, "int8": 4.0}) == expected


def test_openvino_as_it_comes_takes_fp32_where_the_cpu_has_no_16_bits():
    assert computed_in("openvino", {}, {"fp32": 1.0, "int8": 4.0}) == "fp32"


def test_versions_are_read_from_both_environments(tmp_path):
    package = tmp_path / "lib/python3.11/site-packages/mnn-9.8.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mnn\nVersion: 9.8\n")
    found = libraries(tmp_path / "bin/python")
    assert found["MNN"] == "9.8" and {"openvino", "onnxruntime"} <= set(found)
