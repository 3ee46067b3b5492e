"""`python -m runtime.triton --engine FILE --repository DIR`: a model repository for Triton's python backend.

The engine becomes the version after the last one; `--serve N` goes back to a version that is there. With the word
`probe` before all options the golden frame is sent to a server, and its mask held to the golden one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.arguments import Parser
from runtime.lookup import chosen_engine, described
from runtime.manifest import read_manifest
from runtime.serve.engines import NAMED, Named
from runtime.texts import shown
from runtime.triton import probe
from runtime.triton.places import ENGINE, model_folder, refuse_no_repository
from runtime.triton.repository import Written, add, serve

PROBE = "probe"


def main(argv: Sequence[str]) -> int:
    """Write what `argv` says; the model's folder is printed.

    Raises:
        PipelineError: the engine, the version or the repository cannot be used; what is served stays.
    """
    if argv[:1] == [PROBE]:
        return probe.main(argv[1:])
    options = _options_of(argv)
    refuse_no_repository(options.repository)
    written = _written(options)
    _tell(written)
    cli.show(written.model)
    return cli.DONE


def _options_of(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m runtime.triton", description=__doc__)
    add_option = parser.add_argument
    add_option("--repository", type=Path, required=True, metavar="DIR", help="of `tritonserver --model-repository`; "
        "made where it is not there")  # fmt: skip
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--engine", metavar="[NAME=]FILE", help="served under its name, by default its network's "
        "(default: this machine's newest)")  # fmt: skip
    one.add_argument("--serve", type=cli.count_from_text, metavar="N", help="this version of the model instead")
    add_option("--name", help="of the model that --serve is about (default: the only one)")
    add_option("--lanes", type=cli.lanes_from_text, metavar="N", help="instances, each a process with one frame at a "
        "time (default: as before, or what the engine does best under load)")  # fmt: skip
    parser.refuse_word(argv, (PROBE,))
    options = parser.parse_args(argv)
    if options.name and not options.serve:
        parser.error("--name is for --serve; an engine is named by --engine NAME=FILE")
    return options


def _written(options: argparse.Namespace) -> Written:
    if options.serve:
        return serve(model_folder(options.repository, options.name), options.serve, options.lanes)
    name, path = _named(options.engine or str(chosen_engine()))
    cli.log(f"engine {shown(path)}: {described(read_manifest(path))}")
    return add(options.repository, name, path, options.lanes)


def _named(text: str) -> Named:
    found = NAMED.fullmatch(text)
    if found and not Path(text).exists():
        return Named(found[1], Path(found[2]))
    return Named(read_manifest(text).spec.name, Path(text))


def _tell(written: Written) -> None:
    model, version, is_new, before = written
    sha = read_manifest(model / str(version) / ENGINE).engine_sha256[:12]
    what = "new" if is_new else "as before" if before == version else "which was there"
    cli.log(f"{model.name}: version {version} ({sha}), {what}" + (f"; before: {before}" if before else ""))
    if version != before:
        cli.log(f"load it: POST /v2/repository/models/{model.name}/load (tritonserver --model-control-mode=explicit)")
