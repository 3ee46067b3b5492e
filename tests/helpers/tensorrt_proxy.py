"""Objects of TensorRT that know the real classes: each name, setter, call and argument is checked, nothing is run.

What a call returns is an object of the class that the binding's own signature names, so that a whole program can be
led through a library that is not here. `answers` says what comes instead where the program has to see a value.
"""

import inspect
import re
from types import ModuleType

SIGNATURE = re.compile(r"^(?:\d+\. )?\w*\((?P<parameters>self: .*|arg0: .*)\) -> (?P<returned>.+)$", re.MULTILINE)
PLAIN = {"int": 1, "str": "text", "bool": True, "None": None, "float": 1.0}
# Signatures that name a class of C++ because the binding declares it later.
LATER = {"nvonnxparser::IParserError": "ParserError", "nvinfer1::IRuntimeCache": "IRuntimeCache"}
MADE_WITHOUT_LIBRARY = ("ILogger", "IProgressMonitor")


class Proxy:
    """An object of one real class."""

    def __init__(self, module, real):
        object.__setattr__(self, "_module", module)
        object.__setattr__(self, "_real", real)

    def __getattr__(self, name):
        member = self._module.member(self._real, name)
        if isinstance(member, property):
            return self._module.answer(self, name, (), member.fget.__doc__)
        return lambda *args, **kwargs: self._module.call(self, name, member.__doc__, args, kwargs)

    def __setattr__(self, name, value):
        if name == "__class__":
            assert issubclass(value, self._real), f"{value} is no {self._real}"
            object.__setattr__(self, "_real", value)
            return
        member = self._module.member(self._real, name)
        if not isinstance(member, property) or member.fset is None:
            raise AttributeError(f"{self._real.__name__}.{name} cannot be set")
        self._module.bind(self, name, member.fset.__doc__, (value,), {})

    def __bytes__(self):
        assert self._real.__name__ == "IHostMemory", f"{self._real.__name__} has no bytes"
        return b"bytes"


class Members:
    """An enumeration whose members are noted."""

    def __init__(self, module, real):
        self._module, self._real = module, real

    def __getattr__(self, name):
        self._module.used.add(name)
        return getattr(self._real, name)


class ProxyModule(ModuleType):
    """The real module, with its classes made into proxies; `used` collects every name that the program touched."""

    def __init__(self, real, name, answers):
        super().__init__(name)
        self.real, self.answers, self.used = real, answers, set()

    def __getattr__(self, name):
        member = getattr(self.real, name)
        self.used.add(name)
        if hasattr(member, "__members__"):
            return Members(self, member)
        made = inspect.isclass(member) and "(self: " in (member.__init__.__doc__ or "")
        if not made or name in MADE_WITHOUT_LIBRARY:
            return member

        def construct(*args, **kwargs):
            proxy = Proxy(self, member)
            self.bind(proxy, "__init__", member.__init__.__doc__, args, kwargs)
            return proxy

        return construct

    def member(self, real, name):
        self.used.add(name)
        found = inspect.getattr_static(real, name, None)
        if found is None:
            raise AttributeError(f"{real.__name__} has no {name}")
        return found

    def call(self, proxy, name, doc, args, kwargs):
        return self.answer(proxy, name, args, self.bind(proxy, name, doc, args, kwargs))

    def bind(self, proxy, name, doc, args, kwargs):
        """The signature that takes these arguments."""
        signatures = list(SIGNATURE.finditer(doc or ""))
        assert signatures, f"{name} has no signature: {doc}"
        for signature in signatures:
            parameters = [self._parameter(text) for text in _split(signature["parameters"])]
            try:
                bound = inspect.Signature([parameter for parameter, _ in parameters]).bind(proxy, *args, **kwargs)
            except TypeError:
                continue
            kinds = {parameter.name: kind for parameter, kind in parameters}
            if all(self._fits(value, kinds[key]) for key, value in bound.arguments.items()):
                return signature[0]
        raise TypeError(f"{proxy._real.__name__}.{name} does not take {args} {kwargs}: {doc.strip()}")

    def answer(self, proxy, name, args, signature):
        returned = SIGNATURE.search(signature)["returned"].strip()
        key = f"{proxy._real.__name__}.{name}"
        if key in self.answers:
            answer = self.answers[key]
            return answer(*args) if callable(answer) else answer
        if returned in PLAIN:
            return PLAIN[returned]
        return Proxy(self, self._class(returned))

    def _class(self, text):
        return getattr(self.real, LATER.get(text, text).rpartition(".")[2])

    def _parameter(self, text):
        name, kind, default = re.fullmatch(r"(\w+): (.+?)(?: = (.*))?", text).groups()
        empty = inspect.Parameter.empty
        parameter = inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=empty if default is None else default
        )
        return parameter, kind

    def _fits(self, value, kind):
        if kind in ("typing.SupportsInt", "int"):
            return hasattr(value, "__int__")
        if kind.endswith("Buffer"):
            return isinstance(value, bytes | bytearray | memoryview)
        if kind in ("str", "bool", "float", "tuple", "list"):
            return type(value).__name__ == kind
        wanted = self._class(kind)
        if wanted.__name__ == "Dims" and isinstance(value, tuple | list):  # the bindings make Dims of them
            return True
        return issubclass(value._real, wanted) if isinstance(value, Proxy) else isinstance(value, wanted)


def _split(text):
    """The parameters of a signature: commas inside <>, [] and () separate nothing."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "<[(") - (letter in ">])")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
