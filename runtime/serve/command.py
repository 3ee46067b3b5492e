"""`python -m runtime.serve --engine FILE`: masks over HTTP."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from runtime import cli
from runtime.lookup import chosen_engine, described
from runtime.serve.app import Desk, application
from runtime.serve.engines import Engines, Named, Opening, Served, named_from_text, opened
from runtime.serve.guards import Guard, is_loopback, token_from_file
from runtime.serve.metrics import Metrics
from runtime.serve.options import limits_of, options_of
from runtime.serve.routes import routes_of
from runtime.serve.server import Parts, address_of, listening, serve
from runtime.serve.service import Service
from runtime.serve.swap import Swapper
from runtime.serve.uploads import Uploads
from runtime.threads import for_command


def main(argv: Sequence[str]) -> int:
    """Serve engines until SIGTERM or Ctrl-C; the address is printed once requests are answered.

    Raises:
        PipelineError: an engine, a token or the address cannot be used.
    """
    options = options_of(argv)
    limits, metrics = limits_of(options), Metrics()
    with ExitStack() as stack:
        listener = stack.enter_context(listening(options.host, options.port, limits))
        guard = _guard(options, listener.getsockname()[0])
        stack.enter_context(for_command(options.threads))
        opening = Opening(options.lanes, options.fit, options.require_signed, options.threads)
        engines = _opened(options.engine or [named_from_text(str(chosen_engine()))], opening)
        service, swapper = Service(engines, limits, metrics), Swapper(engines, opening)
        desk = Desk(guard, Uploads(limits), metrics)
        parts = Parts(application(routes_of(service, swapper, metrics), desk), service, swapper, desk.uploads, metrics)
        cli.show(address_of(listener))
        sys.stdout.flush()
        return serve(parts, listener)


def _guard(options: argparse.Namespace, address: str) -> Guard:
    # By the address that is listened on: a name, such as this machine's, may be of any.
    tokens = (options.token_file, options.admin_token_file)
    token, admin_token = (path and token_from_file(path) for path in tokens)
    names = [*options.allow_host, options.host]
    return Guard(loopback=is_loopback(address), names=names, token=token, admin_token=admin_token)


def _opened(named: list[Named], opening: Opening) -> Engines:
    served: list[Served] = []
    with ExitStack() as undo:
        for each in named:
            served.append(opened(each, opening))
            undo.callback(served[-1].close)
            cli.log(f"engine {each.name}: {described(served[-1].manifest)}")
        engines = Engines(served)
        undo.pop_all()
    return engines
