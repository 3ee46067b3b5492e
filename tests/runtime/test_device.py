import pytest

from runtime.arguments import Parser, add_device


def parsed(*argv):
    parser = Parser(prog="python -m engines.build")
    add_device(parser)
    return parser.parse_args(argv).device


def test_the_device_is_the_first_one():
    assert parsed() == parsed("--device", "auto") == "auto"


@pytest.mark.parametrize(
    ("device", "words"),
    [("dla0", "a Jetson's DLA is not used"), ("DLA1", "DLA is not used"), ("cuda:1", "CUDA_VISIBLE_DEVICES=1"),
     ("cpu", "the backend openvino"), ("", "only auto is known"), ("x" * 5000, "only auto is known")],
)  # fmt: skip
def test_another_device_is_refused_in_words(device, words, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--device", device)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and words in told and len(told) < 600
