"""`python -m runtime.triton probe --repository DIR`: the golden frame through a server, its mask beside the golden one.

Readiness does not tell of a process that is gone: Triton 2.51 does not start it again, and stays ready. So as many
frames are sent at once as there are processes. Exit code 0: every mask is right; 1: why not, in one line.
"""

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from runtime import cli
from runtime.arguments import Parser
from runtime.errors import EngineError, PipelineError
from runtime.json_values import TOLD, told, values_from_json
from runtime.serve import v2
from runtime.texts import shown
from runtime.triton.golden import Golden, read_golden, refuse_other_mask
from runtime.triton.places import model_folder, served_lanes, versions

URL, TIMEOUT_S = "http://127.0.0.1:8000", 10.0


class Asked(NamedTuple):
    """Which model of which server is asked, and for how long an answer is waited."""

    host: str
    port: int
    name: str
    timeout_s: float


class Answer(NamedTuple):
    """A mask, uint8 (H, W), and the version that gave it."""

    version: str
    mask: np.ndarray


def main(argv: Sequence[str]) -> int:
    """The command line of this module.

    Raises:
        PipelineError: the server gives no answer, or a wrong one.
    """
    parser = Parser(prog="python -m runtime.triton probe", description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, metavar="DIR", help="that the server serves")
    parser.add_argument("--name", help="of the model (default: the only one)")
    parser.add_argument("--url", default=URL, help="of the server (default: %(default)s)")
    parser.add_argument("--timeout", type=cli.number_from_text, default=TIMEOUT_S, metavar="S", help="seconds for an "
        "answer (default: %(default)g)")  # fmt: skip
    options = parser.parse_args(argv)
    model = model_folder(options.repository, options.name)
    host, port = _address(options.url)
    found = probed(Asked(host, port, model.name, options.timeout), model)
    cli.show(f"{model.name} version {found}: the mask of the golden frame is right")
    return cli.DONE


def probed(asked: Asked, model: Path) -> str:
    """Send the golden frame once for each instance, all at once.

    Args:
        asked: the server and the model.
        model: its folder.

    Returns:
        The version, or versions while another one is loaded, that answered.

    Raises:
        EngineError: a mask is wrong.
        PipelineError: there is no answer, or an error.
    """
    golden = {str(number): read_golden(engine) for number, engine in versions(model).items()}
    frame = next(iter(golden.values())).frame if golden else np.zeros((0, 0, 3), np.uint8)
    with ThreadPoolExecutor(served_lanes(model) or 1) as pool:
        answers = list(pool.map(lambda _: inferred(asked, frame), range(served_lanes(model) or 1)))
    for answer in answers:
        _refuse_wrong(answer, golden, asked.name)
    return ", ".join(sorted({answer.version for answer in answers}))


def inferred(asked: Asked, frame: np.ndarray) -> Answer:
    """The mask of a frame, uint8 (H, W, 3) RGB, by the V2 protocol.

    Raises:
        PipelineError: there is no answer, or an error.
    """
    where = f"{asked.host}:{asked.port}, model {asked.name}"
    header, body = _request(frame)
    connection = http.client.HTTPConnection(asked.host, asked.port, timeout=asked.timeout_s)
    try:
        connection.request("POST", f"/v2/models/{asked.name}/infer", body, {v2.HEADER_LENGTH: str(header)})
        got = connection.getresponse()
        data = got.read()
    except (OSError, http.client.HTTPException) as error:
        raise PipelineError(f"{where}: no answer ({error or type(error).__name__})") from None
    finally:
        connection.close()
    if got.status != http.client.OK:
        raise PipelineError(f"{where}: {got.status} {shown(data.decode('utf-8', 'replace'))[:TOLD]}")
    return _answer(data, got.getheader(v2.HEADER_LENGTH), where)


def _request(frame: np.ndarray) -> tuple[int, bytes]:
    size = {"binary_data_size": frame.size}
    tensor = {"name": v2.FRAME, "datatype": v2.TENSOR, "shape": list(frame.shape), "parameters": size}
    output = {"name": v2.MASK, "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    return len(header), header + frame.tobytes()


def _answer(data: bytes, length: str | None, where: str) -> Answer:
    try:
        end = int(length or "")
        fields: Any = values_from_json(data[:end])
        height, width = fields["outputs"][0]["shape"]
        return Answer(str(fields["model_version"]), np.frombuffer(data[end:], np.uint8).reshape(height, width))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise EngineError(f"{where}: the answer holds no mask ({type(error).__name__}: {told(str(error))})") from None


def _refuse_wrong(answer: Answer, golden: dict[str, Golden], name: str) -> None:
    if answer.version not in golden:
        raise EngineError(f"{name}: version {answer.version[:TOLD]} answered, the repository has {', '.join(golden)}")
    refuse_other_mask(answer.mask, golden[answer.version], f"version {answer.version} of {name}")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port or 8000
    except ValueError:
        host, port = None, 0
    if parts.scheme != "http" or not host:
        raise PipelineError(f"--url {told(url)} is no address of a server, for example {URL}")
    return host, port
