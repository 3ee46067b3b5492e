"""`python -m runtime.triton probe --repository DIR`: the golden frame through a server, its mask beside the golden one.

Readiness does not tell of a process that is gone: Triton 2.51 does not start it again, and stays ready. So as many
frames are sent at once as there are processes. Exit code 0: every mask is right; 1: why not, in one line.
"""

import http.client
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from runtime.triton.places import model_folder, served_lanes, served_version, versions

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
        EngineError: a mask is wrong, or the version that answered has no golden frame that can be read.
        PipelineError: there is no answer, or an error.
    """
    there, instances = versions(model), served_lanes(model) or 1
    frame = _some_golden(model, there).frame
    with ThreadPoolExecutor(instances) as pool:
        found = set(pool.map(lambda _: _proven(asked, frame, there), range(instances)))
    return ", ".join(sorted(found))


def _some_golden(model: Path, there: dict[int, Path]) -> Golden:
    # Of the version that is to be served. Where it is damaged, which the server may not have loaded, any: the answer
    # tells which version is held to its own.
    served = served_version(model)
    order = sorted(there, key=lambda number: (number != served, -number))
    for number in order:
        with suppress(EngineError):
            return read_golden(there[number])
    if not order:
        raise EngineError(f"{shown(model)} has no version")
    return read_golden(there[order[0]])


def _proven(asked: Asked, frame: np.ndarray, there: dict[int, Path]) -> str:
    answer = inferred(asked, frame)
    engines = {str(number): engine for number, engine in there.items()}
    if answer.version not in engines:
        raise EngineError(
            f"{asked.name}: version {answer.version[:TOLD]} answered, the repository has {', '.join(engines)}"
        )
    golden = read_golden(engines[answer.version])
    if not np.array_equal(golden.frame, frame):  # versions of other libraries decoded other pixels of the picture
        return _proven(asked, golden.frame, there)
    refuse_other_mask(answer.mask, golden, f"version {answer.version} of {asked.name}")
    return answer.version


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


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port or 8000
    except ValueError:
        host, port = None, 0
    if parts.scheme != "http" or not host:
        raise PipelineError(f"--url {told(url)} is no address of a server, for example {URL}")
    return host, port
