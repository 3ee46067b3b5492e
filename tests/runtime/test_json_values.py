import ast
from pathlib import Path

import pytest

from runtime.json_values import DEEPEST, LARGEST_BYTES, MOST_VALUES, read_json, told, values_from_json

ROOT = Path(__file__).parents[2]
REFUSED = {
    "lists of 100,000": b"[" * 100_000,
    "closed lists of 100,000": b"[" * 100_000 + b"]" * 100_000,
    "objects of 100,000": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a level too deep": b"[" * (DEEPEST + 2) + b"]" * (DEEPEST + 2),
    "NaN": b"[NaN]",
    "infinity": b"[-Infinity]",
    "a float that is too large": b"[1e999]",
    "a number of 10,000 digits": b"1" * 10_000,
    "more than 64 bits": b"9223372036854775808",
    "a key twice": b'{"a": 1, "b": 2, "a": 3}',
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "half a surrogate pair": b'["\\ud800"]',
    "half a pair as a key": b'{"\\udfff": 1}',
    "empty": b"",
    "cut off": b'{"a": [1, 2',
    "too many values": b"[" + b"0," * (MOST_VALUES + 1) + b"0]",
    "two documents": b"{} {}",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_nothing_of_ours_writes_is_a_value_error_of_one_short_line(data):
    with pytest.raises(ValueError) as refused:
        values_from_json(data)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ['{"a": [1, -2.5e3, true, null, "\\ud83d\\ude00"]}', "[" * DEEPEST + "]" * DEEPEST])
def test_what_is_json_is_read(text):
    assert values_from_json(text) == values_from_json(text.encode())


def test_a_pipe_a_folder_and_a_huge_file_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(ValueError, match="it is no file"):
        read_json(tmp_path)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    with pytest.raises(ValueError, match="MiB, expected at most"):
        read_json(tmp_path / "huge.json")


def test_a_message_tells_the_beginning_of_a_value_alone():
    assert len(told("x" * 10**6)) < 200 and told("a\x1bb") == "'a\\x1bb'"


# What json.loads may read: what this process or its own child has just written.
OWN = {
    "runtime/json_values.py", "runtime/measure/serving.py", "runtime/backends/onnxruntime_layers.py",
    "runtime/manifest.py", "calib/table.py", "engines/tensorrt_precision.py", "export/training/ablation.py",
}  # fmt: skip


def test_every_document_is_read_by_the_one_reader():
    for package in ("runtime", "engines", "calib", "export", "streetseg"):
        for path in (ROOT / package).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
            loads = [
                call for call in calls if call.attr in ("loads", "load") and getattr(call.value, "id", "") == "json"
            ]
            assert not loads or path.relative_to(ROOT).as_posix() in OWN, path


def test_a_mark_of_the_byte_order_is_no_part_of_a_text():
    assert values_from_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
