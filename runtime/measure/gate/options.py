"""The options of `runtime.regress`: what each takes, and which never go together."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.arguments import Parser
from runtime.measure.clocks import add_lock
from runtime.measure.gate.comparable import ACROSS
from runtime.measure.gate.measuring import Bounds, least_rounds, refuse_too_few
from runtime.measure.gate.verdict import Rule
from runtime.measure.worker import PATIENCE_S
from runtime.samples import STREET

MOST_ALPHA = 0.5


def share_from_text(text: str) -> float:
    """'0.05' or '5%' -> 0.05; an argparse type for a share above 0, which asks about 5.

    Raises:
        argparse.ArgumentTypeError: it is no number above 0; or one of 1 or more, written without %.
    """
    in_percent = text.rstrip().endswith("%")
    number = cli.number_from_text(text.rstrip().removesuffix("%"))
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    if in_percent:
        return number / 100
    if number >= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is {number * 100:g} %: did you mean {number / 100:g}? If not, write {number * 100:g}%"
        )
    return number


def alpha_from_text(text: str) -> float:
    """'0.002' or '0.2%' -> 0.002; an argparse type for a chance.

    Raises:
        argparse.ArgumentTypeError: it is not above 0, or above a half.
    """
    alpha = share_from_text(text)
    if alpha > MOST_ALPHA:
        raise argparse.ArgumentTypeError(f"{text!r} is a chance of {alpha:g}, and at most {MOST_ALPHA:g} is taken")
    return alpha


def positive_from_text(text: str) -> float:
    """'33.3' -> 33.3; an argparse type.

    Raises:
        argparse.ArgumentTypeError: it is no finite number above 0.
    """
    number = cli.number_from_text(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return number


def rule_of(options: argparse.Namespace) -> Rule:
    """The rule that the options ask for."""
    return Rule(options.margin, options.alpha, options.rounds, options.frames, options.batches)


def bounds_of(options: argparse.Namespace) -> Bounds:
    """How long it may take."""
    return Bounds(options.minutes, options.patience)


def parsed(argv: Sequence[str], description: str | None) -> argparse.Namespace:
    """The options; a mistake in them is usage."""
    parser = _parser(description)
    options = parser.parse_args(argv)
    alone = options.baseline or options.record
    if len(options.engines) > 2 or (len(options.engines) == 2) == bool(alone):
        parser.error("give BASE_ENGINE NEW_ENGINE, or one engine and --baseline FILE or --record FILE")
    if options.counts_alone and (options.record or options.budget_ms is not None or options.minutes):
        parser.error("--counts-alone times nothing: there is nothing to record, and no budget or minutes to hold")
    if options.baseline and options.record:
        parser.error("--record writes a baseline and --baseline reads one: give one of them")
    if alone and (options.base_code or options.across):
        parser.error("--base-code and --across are of a pair of engines, and one engine was given")
    too_few = None if options.counts_alone else _too_few(options)
    if too_few:
        parser.error(too_few)
    return options


def _too_few(options: argparse.Namespace) -> str | None:
    rule = rule_of(options)
    if options.record and rule.rounds < least_rounds(rule):
        return f"a record of {rule.rounds} rounds proves nothing later: --rounds must be {least_rounds(rule)} or more"
    return None if options.record else refuse_too_few(rule, apart=bool(options.baseline))


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = Parser(prog="python -m runtime.regress", description=description)
    add = parser.add_argument
    add("engines", type=Path, nargs="+", metavar="ENGINE", help="base and candidate; or one alone")
    add("--baseline", type=Path, metavar="FILE", help="hold one engine to what was recorded here")
    add("--record", type=Path, metavar="FILE", help="measure one engine and keep it as a baseline")
    add("--base-code", type=Path, metavar="DIR", help="the tree whose runtime/ runs the base (this one)")
    add(
        "--across", choices=ACROSS, action="append", default=[], metavar="WHAT",
        help=f"compare although this differs: {', '.join(ACROSS)}; may be repeated",
    )  # fmt: skip
    _add_rule(parser)
    add("--budget-ms", type=positive_from_text, metavar="MS", help="p99 of a frame must not exceed it; for 30 Hz 33.3")
    add(
        "--minutes",
        type=positive_from_text,
        metavar="N",
        help="all in all at most; it says beforehand how long it takes",
    )
    add(
        "--patience", type=positive_from_text, default=PATIENCE_S, metavar="S",
        help="seconds that a process may be silent, at most; less once its frames are known (%(default)g)",
    )  # fmt: skip
    add("--frame", type=Path, default=STREET, help="an image (%(default)s)")
    add("--frame-size", type=cli.size_from_text, help="HEIGHTxWIDTH it is brought to (the network's)")
    add_lock(parser)
    cli.add_threads(parser)
    add("--seed", type=cli.seed_from_text, default=0, help="of the order of turns (%(default)s)")
    add("--counts-alone", action="store_true", help="judge layers and bytes, where time means nothing")
    add("--json", type=Path, metavar="FILE", help="everything, raw samples too")
    add("--junit", type=Path, metavar="FILE", help="JUnit XML")
    add("--markdown", type=Path, metavar="FILE", help="a summary fit for a pull request")
    return parser


def _add_rule(parser: argparse.ArgumentParser) -> None:
    rule = Rule()
    add = parser.add_argument
    add(
        "--margin", type=share_from_text, default=rule.margin,
        help="slowdown let pass, a share or with %% (%(default)s)",
    )  # fmt: skip
    add(
        "--alpha", type=alpha_from_text, default=rule.alpha,
        help="chance of a false alarm, over all looks (%(default)s)",
    )  # fmt: skip
    add("--rounds", type=cli.count_from_text, default=rule.rounds, help="rounds of a batch (%(default)s)")
    add("--frames", type=cli.count_from_text, default=rule.frames, help="frames a round and engine (%(default)s)")
    add("--batches", type=cli.count_from_text, default=rule.batches, help="batches at most, in doubt (%(default)s)")
