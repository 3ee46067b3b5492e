"""`python -m runtime`: which commands there are."""

from collections.abc import Sequence

from runtime.cli import DONE, USAGE, closest, fail, run

COMMANDS = {
    "runtime.infer": "segment images, videos or a camera",
    "runtime.serve": "masks over HTTP",
    "runtime.triton": "a model repository for Triton, of an engine",
    "runtime.fleet": "many images and videos, over many machines",
    "runtime.evaluate": "mIoU of engines on labelled frames, side by side",
    "runtime.prove": "does an engine compute here what its graph says?",
    "runtime.doctor": "what works on this machine, and what to mend first",
    "runtime.bench": "frame to mask, beside other libraries, in turns",
    "runtime.bench_files": "pictures and videos, file to file",
    "runtime.bench_rivals": "one engine beside all that one would use instead",
    "runtime.bench_scaling": "time, throughput and memory by threads and by pixels",
    "runtime.bench_report": "README's tables from what runtime.bench measured",
    "runtime.regress": "is an engine slower than another? a gate for CI",
    "runtime.report": "all figures in one HTML file",
}


def main(argv: Sequence[str]) -> int:
    """Print the commands; with anything but --help, say that it is none of them."""
    if argv and argv[0] not in ("-h", "--help"):
        names = {name.removeprefix("runtime."): name for name in COMMANDS}
        given = argv[0]
        fail(f"type python -m {names[given]}" if given in names else str(closest(given, names, "command")))
        return USAGE
    print("The commands of runtime; each tells its options with --help:\n")
    print("\n".join(f"  python -m {name:<22} {about}" for name, about in COMMANDS.items()))
    print("\nstreetseg --help lists all commands of the project.")
    return DONE


if __name__ == "__main__":
    run(main)
