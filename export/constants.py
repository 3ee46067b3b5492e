"""What a traced network computes from its size alone, computed once and kept as buffers.

Traced, a tensor that a network makes itself stays where and what it was made: `.to("cuda", torch.float16)` moves
parameters and buffers alone, and leaves a program that refuses its first frame.
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from torch import fx
    from torch.export import ExportedProgram


def movable(program: "ExportedProgram", example: "torch.Tensor") -> "ExportedProgram":
    """The same program, whose every tensor follows `.to(device, dtype)`, and which computes no constant twice.

    Args:
        program: of a network in evaluation mode, which takes one tensor.
        example: what it was traced with.

    Returns:
        `program` itself where it makes no tensor, and where it writes a frame's values into one that it made.
    """
    import torch

    module = cast("fx.GraphModule", program.module())
    if not _fold(module, set(program.graph_signature.parameters) | set(program.graph_signature.buffers)):
        return program
    module.graph.eliminate_dead_code()
    module.recompile()
    return torch.export.export(module, (example,))


def _fold(module: "fx.GraphModule", moved: set[str]) -> bool:
    # In the order of the graph, so that what is written into a tensor in place is in it when it is read.
    known: dict[fx.Node, Any] = {}
    buffers: dict[fx.Node, fx.Node] = {}  # the newest of each: it may be written into after it was read
    asserted = [node for node in module.graph.nodes if "_assert_tensor_metadata" in str(node.target)]
    for node in asserted:
        module.graph.erase_node(node)  # of a device and a type, which may change
    for node in list(module.graph.nodes):
        if _is_constant(node, moved, known):
            known[node] = _value(module, node, known)
        elif _writes(node) and not known.keys().isdisjoint(node.all_input_nodes):
            return False
        else:
            for source in [one for one in node.all_input_nodes if one in known]:
                node.replace_input_with(source, _buffer(module, source, known[source], buffers))
    for node in reversed(known):
        module.graph.erase_node(node)
    return bool(known or asserted)


def _is_constant(node: "fx.Node", moved: set[str], known: "dict[fx.Node, Any]") -> bool:
    if node.op == "get_attr":
        return node.target not in moved
    return node.op == "call_function" and all(source in known for source in node.all_input_nodes)


def _writes(node: "fx.Node") -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _value(module: "fx.GraphModule", node: "fx.Node", known: "dict[fx.Node, Any]") -> Any:
    import torch

    if node.op == "get_attr":
        found: Any = module
        for name in str(node.target).split("."):
            found = getattr(found, name)
        return found.clone() if isinstance(found, torch.Tensor) else found
    arguments, named = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
    with torch.no_grad():
        return cast(Any, node.target)(*arguments, **named)


def _buffer(
    module: "fx.GraphModule", source: "fx.Node", value: "torch.Tensor", buffers: "dict[fx.Node, fx.Node]"
) -> "fx.Node":
    import torch

    if source in buffers and torch.equal(getattr(module, str(buffers[source].target)), value):
        return buffers[source]
    name = f"constant_{sum(name.startswith('constant_') for name, _ in module.named_buffers())}"
    module.register_buffer(name, value.clone())
    with module.graph.inserting_after(source):
        buffers[source] = module.graph.get_attr(name)
    return buffers[source]
