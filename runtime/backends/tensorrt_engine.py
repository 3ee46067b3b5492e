"""An engine of TensorRT or TensorRT-RTX by itself: device memory in, device memory out."""

from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

from runtime.artifacts import write_atomically
from runtime.backends import tensorrt_library
from runtime.cli import log
from runtime.errors import EngineError
from runtime.kernels.cuda import CACHE, Tensor
from runtime.libraries import signals_held
from runtime.spec import EngineManifest, ModelSpec

Shape = tuple[int, int, int]
OPEN = -1  # the batch of an engine that takes any number of frames up to its spec's
PADDED = 4  # channels of an input whose channels are last: eight bytes a pixel in FP16, which is one load


class TensorType(NamedTuple):
    """What one frame's part of a tensor is: (channels, height, width), "fp16" or "fp32", and how it lies in memory.

    With `channels_last` memory is [height][width][channels], else [channels][height][width]. An input whose channels
    are last has `PADDED` of them, and the network reads zeros in the one that no frame has.
    """

    shape: Shape
    dtype: str
    channels_last: bool = False


def shapes(spec: ModelSpec) -> tuple[Shape, Shape]:
    """(channels, height, width) of a network's input and of its logits."""
    height, width = spec.preprocess.height, spec.preprocess.width
    step = spec.output_stride * spec.block
    return (3, height, width), (len(spec.classes) * spec.block**2, -(-height // step), -(-width // step))


class Engine:
    """Owns the library's objects; all its methods want the context current in which it was made."""

    def __init__(self, engine: bytes, manifest: EngineManifest, jit_cache: Path) -> None:
        """Deserialise it and make its execution context.

        Args:
            engine: as built.
            manifest: of that engine.
            jit_cache: where TensorRT-RTX keeps what it compiled for this GPU; read if it is there, else written.

        Raises:
            EngineError: the library refuses it, or its tensors are not those of the manifest's model.
        """
        self._manifest, self._jit_path = manifest, jit_cache
        self._trt = tensorrt_library.library(manifest.backend)
        self._log = tensorrt_library.log_of(self._trt)
        self._log.clear()
        self._fresh = True  # nothing of what it compiles is kept yet
        self._jit_cache: Any = None
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._frames = 0  # that the next `enqueue` computes, where the batch is open; none was told yet
        try:
            with signals_held():
                self._open(engine)
        except BaseException:
            self._drop()
            raise

    def beside(self) -> "Engine":
        """Another execution context of the same engine, for another stream: the weights are there once.

        Raises:
            EngineError: the library refuses it.
        """
        other = copy(self)
        with signals_held():
            other._context, other._fresh, other._frames = self._execution_context(), True, 0
        if other._context is None:
            raise self._refusal("cannot start another lane of")
        return other

    def bind(self, network_input: Tensor, logits: Tensor) -> None:
        """Read from and write to these from now on; they must outlive every `enqueue`.

        Raises:
            EngineError: the library does not take an address.
        """
        for name, tensor in ((self._input_name, network_input), (self._logits_name, logits)):
            if not self._context.set_tensor_address(name, tensor.address):
                raise self._refusal(f"takes no memory for {name} of")

    def take(self, frames: int, stream: int) -> bool:
        """Let the next `enqueue` compute so many frames, where the engine leaves that open.

        Args:
            frames: 1 to the batch of its spec.
            stream: that it will be enqueued on; nothing of the engine may be on its way.

        Returns:
            Whether that is another number than before: what was captured of the engine is no longer valid.

        Raises:
            EngineError: the library does not take so many.
        """
        if not self._manifest.spec.batch_free or frames == self._frames:
            return False
        context = self._context
        with signals_held():
            is_first = context.active_optimization_profile == 0 or context.set_optimization_profile_async(0, stream)
            is_taken = is_first and context.set_input_shape(self._input_name, (frames, *self._input_dims[1:]))
        if not is_first:
            raise self._refusal("gives no profile to")
        if not is_taken:
            raise self._refusal(f"takes no {frames} frames for")
        self._frames, self._fresh = frames, True
        return True

    def capturable(self, stream: int) -> bool:
        """Whether the library says that its work can be captured on that stream; true where it cannot be asked."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(stream))

    def enqueue(self, stream: int) -> None:
        """Run the network, ordered on the CUDA stream of that handle.

        Raises:
            EngineError: the library cannot.
        """
        with signals_held():  # the first time TensorRT-RTX compiles its kernels, for seconds
            ran = self._context.execute_async_v3(stream)
        if not ran:
            raise self._refusal("cannot run")

    def forget_errors(self) -> None:
        """What the library logged until now is no reason of what it refuses next."""
        self._log.clear()

    def keep_compiled(self) -> None:
        """Keep what TensorRT-RTX compiled for this GPU; to be called after a first frame, so that a kill loses nothing.

        A second call does nothing.
        """
        if not self._fresh:
            return
        self._fresh = False
        try:
            self._keep_jit_cache()
        except OSError as error:
            log(f"what was compiled for this GPU is not kept, the next start compiles it again: {error}")

    def close(self) -> None:
        """Free everything but what other lanes use; what TensorRT-RTX compiled since is kept for the next time."""
        self._fresh = True
        self.keep_compiled()
        self._drop()

    def _open(self, engine: bytes) -> None:
        self._runtime = self._trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise self._refusal("refuses")
        self._jit_cache = self._runtime_cache()
        self._context = self._execution_context()
        if self._context is None:
            raise self._refusal("cannot start")
        self._input_name, self._logits_name = self._tensor_names()
        self._input_dims = tuple(self._engine.get_tensor_shape(self._input_name))
        input_shape, logits_shape = shapes(self._manifest.spec)
        self.input = self._tensor_type(self._input_name, input_shape, PADDED)
        self.logits = self._tensor_type(self._logits_name, logits_shape, logits_shape[0])

    def _drop(self) -> None:
        # In this order: the library wants a context gone before its engine, and an engine before its runtime.
        self._context = None
        self._jit_cache = None
        self._engine = None
        self._runtime = None

    def _keep_jit_cache(self) -> None:
        if self._jit_cache is None:
            return
        compiled = bytes(self._jit_cache.serialize())
        if not self._jit_path.is_file() or self._jit_path.read_bytes() != compiled:
            write_atomically(self._jit_path, compiled)

    def _runtime_cache(self) -> Any:
        # TensorRT-RTX compiles its kernels for this GPU at the first frame, for seconds; its cache makes that once.
        if self._manifest.backend != "tensorrt-rtx":
            return None
        cache = self._engine.create_runtime_config().create_runtime_cache()
        if self._jit_path.is_file():
            # What it cannot use (another driver's, say) it leaves, and compiles again.
            cache.deserialize(self._jit_path.read_bytes())
        return cache

    def _execution_context(self) -> Any:
        if self._jit_cache is None:
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        config.set_runtime_cache(self._jit_cache)
        if self._manifest.spec.batch_free:
            # By itself it runs kernels for any shape until those for this one are compiled: a graph would keep them.
            eager = self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = eager
        return self._engine.create_execution_context(config)

    def _tensor_names(self) -> tuple[str, str]:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(f"the engine takes {inputs} and gives {outputs}, expected one tensor each")
        return inputs[0], outputs[0]

    def _tensor_type(self, name: str, shape: Shape, last_channels: int) -> TensorType:
        known = {self._trt.DataType.HALF: "fp16", self._trt.DataType.FLOAT: "fp32"}
        spec = self._manifest.spec
        batch = OPEN if spec.batch_free else spec.batch
        dtype, found = self._engine.get_tensor_dtype(name), tuple(self._engine.get_tensor_shape(name))
        how = self._engine.get_tensor_format(name)
        form = self._forms(shape, last_channels, batch).get((found, how))
        if dtype not in known or form is None:
            raise EngineError(
                f"the engine's tensor {name} is {dtype} {found} {how}, expected fp16 or fp32 {(batch, *shape)} "
                f"for {self._manifest.spec.name}"
            )
        return TensorType(form[0], known[dtype], form[1])

    def _forms(self, shape: Shape, last_channels: int, batch: int = 1) -> dict[Any, tuple[Shape, bool]]:
        # Dimensions and format of the engine's tensor -> as in `TensorType`. Of equal sides planes are what is meant:
        # no builder of ours writes channels last without the format that says so.
        linear, last = self._trt.TensorFormat.LINEAR, (last_channels, *shape[1:])
        return {
            ((batch, *last), self._trt.TensorFormat.HWC): (last, True),
            ((batch, *last[1:], last_channels), linear): (last, True),
            ((batch, *shape), linear): (shape, False),
        }

    def _refusal(self, what: str) -> EngineError:
        name = self._trt.__name__
        return EngineError(f"{name} {what} the engine of {self._manifest.spec.name}: {self._log.first_error()}")


def jit_cache_path(manifest: EngineManifest, gpu_name: str) -> Path:
    """Where the compiled kernels of one engine on one GPU are kept."""
    device = "".join(letter if letter.isalnum() else "-" for letter in gpu_name)
    return CACHE / f"jit-{manifest.engine_sha256[:16]}-{manifest.target.library_version}-{device}.bin"
