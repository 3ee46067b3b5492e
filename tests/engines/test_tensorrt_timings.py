from engines.tensorrt_timings import TimingCache, timings_path
from runtime.artifacts import is_sealed
from runtime.spec import Target

TARGET = Target("tensorrt", "11.4", "NVIDIA Abacus", "9.0", "linux-x86_64")


class Cache:
    def __init__(self, entries):
        self.entries = set(entries)

    def combine(self, other, ignore_mismatch):
        assert not ignore_mismatch
        self.entries |= other.entries
        return True

    def serialize(self):
        return memoryview(" ".join(sorted(self.entries)).encode())


class Config:
    """The builder's config: takes caches, but for those with an entry of another GPU."""

    def create_timing_cache(self, blob):
        return Cache(bytes(blob).decode().split())

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.set = cache
        return "foreign" not in cache.entries


def build(path, measured):
    """A build that measures that, and what it knew before."""
    config = Config()
    cache = TimingCache(config, path)
    before = set(config.set.entries)
    config.set.entries.add(measured)
    cache.keep()
    return before


def test_the_second_build_knows_what_the_first_measured(tmp_path):
    path = timings_path(tmp_path, TARGET)
    assert build(path, "conv") == set()
    assert build(path, "gemm") == {"conv"}
    assert build(path, "gemm") == {"conv", "gemm"} and is_sealed(path)


def test_another_gpu_or_library_has_a_cache_of_its_own(tmp_path):
    others = [Target("tensorrt", "11.5", *list_of(TARGET)[2:]), Target("tensorrt", "11.4", "B", "9.0", "linux-x86_64")]
    assert len({timings_path(tmp_path, target) for target in (TARGET, *others)}) == 3


def list_of(target):
    return [getattr(target, name) for name in Target.__slots__]


def test_two_builds_at_once_keep_what_both_measured(tmp_path):
    path = timings_path(tmp_path, TARGET)
    first, second = Config(), Config()
    caches = TimingCache(first, path), TimingCache(second, path)
    first.set.entries.add("conv")
    second.set.entries.add("gemm")
    for cache in caches:
        cache.keep()
    assert build(path, "more") == {"conv", "gemm"}


def test_a_damaged_cache_is_said_and_measured_anew(tmp_path, capsys):
    path = timings_path(tmp_path, TARGET)
    build(path, "conv")
    path.write_bytes(b"conv damaged")
    assert build(path, "gemm") == set()
    assert "is damaged: kernels are measured anew" in capsys.readouterr().err
    assert build(path, "gemm") == {"gemm"}


def test_a_cache_that_the_library_refuses_is_said_and_measured_anew(tmp_path, capsys):
    path = timings_path(tmp_path, TARGET)
    build(path, "foreign")
    assert build(path, "conv") == set()
    assert "not of this GPU or library" in capsys.readouterr().err


def test_a_folder_that_takes_no_file_loses_no_build(tmp_path, capsys, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.tensorrt_timings.write_sealed", full)
    assert build(timings_path(tmp_path, TARGET), "conv") == set()
    assert "No space left on device" in capsys.readouterr().err
