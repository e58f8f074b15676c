"""Networks as ONNX graphs: exported by torch, run by ONNX Runtime. Both are the extra `onnx`, imported where needed."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version as _version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

EXTRA = "pip install onnx onnxscript onnxruntime"
# a thread that waits spins as long and then sleeps: it does not keep the core from whoever decodes the next images
SPIN_MICROSECONDS = 100


def missing(*packages: str) -> str:
    """The first of these packages (none named: all of the extra) that is not installed; "" where all are."""
    wanted = packages or ("onnx", "onnxscript", "onnxruntime")
    return next((name for name in wanted if find_spec(name) is None), "")


def versions() -> dict[str, str]:
    """Of what exports a graph and of what runs it."""
    return {"torch": torch.__version__, "onnxruntime": "" if missing("onnxruntime") else _version("onnxruntime")}


def exported(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    outputs: Sequence[str],
    *,
    plain: Mapping[Any, Callable[..., Any]] | None = None,
) -> Any:
    """The graph, a ModelProto, of a module in evaluation mode, whose first input may have any number of rows.

    `plain`: torch's operations that ONNX has not, in terms of others.
    Raises whatever torch.export and torch.onnx raise for what they cannot follow.
    """
    free = {0: torch.export.Dim("N")}
    with torch.no_grad(), _quiet():
        shapes = (free, *(None for _ in inputs[1:]))
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
        if plain:
            program = program.run_decompositions(dict(plain))
        made = torch.onnx.export(
            program, inputs, dynamo=True, verbose=False, input_names=list(names), output_names=list(outputs)
        )
    assert made is not None
    return made.model_proto


def session(content: bytes) -> Any:
    """A graph ready to run on the CPU, with as many threads as torch has here."""
    import onnxruntime

    how = onnxruntime.SessionOptions()
    how.log_severity_level = 3  # that an input may be left out is meant
    how.intra_op_num_threads = torch.get_num_threads()
    how.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    return onnxruntime.InferenceSession(content, how, providers=["CPUExecutionProvider"])


def first_line(error: BaseException) -> str:
    """What an exporter's error says, in one line."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return " ".join(lines[0].split())[:120] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters talk to stdout and to the log."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
