"""What a library plans to run for a frame: kernels, types and bytes, side by side for several graphs or libraries.

`python -m engines.plan GRAPH.onnx ... [--backend tensorrt-rtx openvino] [--against OTHER.onnx]`. TensorRT-RTX tells its
plan without a GPU, and nothing of time; OpenVINO tells that of this CPU, and what each kernel took for one frame.
"""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from engines.planned import Kernel, Map, Plan, a_frame, as_json, figures
from runtime.arguments import Parser
from runtime.cli import DONE, amount_from_text, count_from_text, one_of, run, show
from runtime.commands import command, install
from runtime.errors import GraphError, LibraryError
from runtime.spec import BackendName

RTX: BackendName = "tensorrt-rtx"
BACKENDS: tuple[BackendName, ...] = (RTX, "openvino")
NAME_SHOWN = 48


def plan_of(graph: Path, backend: BackendName, *, plain: bool = False, frames: int | None = None) -> Plan:
    """The plan of a graph by one of `BACKENDS`.

    Args:
        graph: an ONNX file; for OpenVINO one of ours.
        backend: whose plan.
        plain: TensorRT-RTX reads the graph as it stands, which may be anyone's; else in the layouts that its engines
            are built in (`engines.tensorrt_layout`). OpenVINO's is always as its engines are built.
        frames: at once; None: as the graph says, of one whose batch is open all that it takes.

    Raises:
        GraphError: the graph is missing, no ONNX file of ours where it must be, or does not take so many frames.
        EngineError: the library refuses it.
        LibraryError: the library is not installed.
    """
    if not graph.is_file():
        raise GraphError(f"graph {graph} does not exist")
    onnx = graph.read_bytes()
    count = _frames(onnx, graph.name, frames, open_batch=backend == RTX)
    if backend == RTX:
        return _of_rtx(onnx, graph.name, count, plain=plain)
    return _of_openvino(onnx, graph.name)._replace(frames=count)


def side_by_side(plans: Sequence[Plan], *, difference: bool = False) -> str:
    """A table with a row for each figure and a column for each plan.

    Args:
        plans: in their order.
        difference: tell of every plan but the first how much more or less a figure is than the first one's.
    """
    several = any(plan.frames > 1 for plan in plans)
    columns = [(a_frame(plan) if several else {}) | figures(plan) for plan in plans]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [["", *(plan.graph[:NAME_SHOWN] for plan in plans)], ["library", *(plan.library for plan in plans)]]
    for name in names:
        values = [column.get(name) for column in columns]
        first = values[0] if difference else None
        rows.append([name, _told(values[0], None), *(_told(value, first) for value in values[1:])])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(_row(row, widths) for row in rows)


def largest(plan: Plan, count: int) -> str:
    """The kernels of a plan that move the most bytes, a line each."""
    ordered = sorted(plan.kernels, key=lambda kernel: -kernel.moved)[:count]
    return "\n".join([f"{plan.graph}, {plan.library}:", *map(_kernel_line, ordered)])


def _frames(onnx: bytes, name: str, asked: int | None, *, open_batch: bool) -> int:
    # How many frames at once are planned for, of what the graph takes and was asked for.
    from calib.graphs import graph_from_bytes, spec_of

    model = graph_from_bytes(onnx)
    shape = model.graph.input[0].type.tensor_type.shape.dim if model.graph.input else []
    own = shape[0].dim_value if len(shape) else 1
    if not own and open_batch:
        try:
            most = spec_of(model).batch
        except GraphError:  # anyone's
            most = asked or 1
        if (asked or 1) > most:
            raise GraphError(f"{name} takes 1 to {most} frames at once, asked were {asked}")
        return asked or most
    if asked not in (None, own or 1):
        raise GraphError(
            f"{name} takes {own or 1} frames at once{'' if own else ' here'}, asked were {asked}: "
            f"{command('onnx', batch=f'1-{asked}')} and {RTX} plan any number up to that"
        )
    return own or 1


def _of_rtx(onnx: bytes, name: str, frames: int, *, plain: bool) -> Plan:
    try:
        tensorrt_plan = importlib.import_module("engines.tensorrt_plan")
    except ImportError as error:
        raise LibraryError(f"{RTX} does not load ({error}); {install(RTX)}") from None
    if plain:
        plan: Plan = tensorrt_plan.plan(onnx, name, frames=frames)
    else:
        plan = tensorrt_plan.plan_of_ours(onnx, name, frames)
    return plan


def _of_openvino(onnx: bytes, name: str) -> Plan:
    from engines.build import graph_precision, read_spec

    try:
        openvino_plan = importlib.import_module("engines.openvino_plan")
    except ImportError as error:
        raise LibraryError(f"openvino does not load ({error}); {install('')}") from None
    plan: Plan = openvino_plan.plan(onnx, name, read_spec(onnx), graph_precision(onnx))
    return plan


def _told(value: float | None, first: float | None) -> str:
    text = "-" if value is None else f"{value:g}"
    if value is None or not first:
        return text
    return f"{text} ({value / first - 1:+.1%})" if value != first else f"{text} (=)"


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]).rstrip()


def _kernel_line(kernel: Kernel) -> str:
    ms = "" if kernel.ms is None else f"{kernel.ms:8.3f} ms"
    name, kind = f"{kernel.name[:NAME_SHOWN]:{NAME_SHOWN}s}", f"{kernel.kind:16s}"
    return f"  {kernel.moved / 1e6:8.1f} MB{ms}  {kind} {name} {_maps(kernel.reads)} -> {_maps(kernel.writes)}"


def _maps(maps: Sequence[Map]) -> str:
    return " + ".join(f"{'x'.join(map(str, each.shape))} {each.type}" for each in maps)


def main(argv: Sequence[str]) -> int:
    """The command line of this module."""
    parser = Parser(prog="python -m engines.plan", description=__doc__)
    parser.add_argument("graphs", type=Path, nargs="+", metavar="GRAPH", help="an ONNX file")
    parser.add_argument("--backend", nargs="+", default=[RTX], help=f"whose plan, of {', '.join(BACKENDS)} ({RTX})")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="an ONNX file that the others are compared with")
    parser.add_argument("--plain", action="store_true", help=f"{RTX}: the graph as it stands, any network's")
    what = "frames at once, of a graph exported with BATCH=1-N; a plan for each (all that it takes)"
    parser.add_argument("--batch", type=count_from_text, nargs="+", default=[None], metavar="N", help=what)
    parser.add_argument("--top", type=amount_from_text, default=0, help="tell so many of the largest kernels, too (0)")
    parser.add_argument("--json", action="store_true", help="figures and kernels as JSON")
    arguments = parser.parse_args(argv)
    backends = [one_of(name, BACKENDS, "backend") for name in arguments.backend]
    graphs = [*([arguments.against] if arguments.against else []), *arguments.graphs]
    asked = [(backend, graph, frames) for backend in backends for graph in graphs for frames in arguments.batch]
    plans = [plan_of(graph, backend, plain=arguments.plain, frames=frames) for backend, graph, frames in asked]
    if arguments.json:
        show(json.dumps([as_json(plan) for plan in plans], indent=1))
        return DONE
    show(side_by_side(plans, difference=bool(arguments.against)))
    for plan in plans if arguments.top else []:
        show(largest(plan, arguments.top))
    return DONE


if __name__ == "__main__":
    run(main)
