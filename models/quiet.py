"""Run the exporter offline and silent: it prints progress and warnings that are not the user's concern."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_NOISY = ("torch", "torch.onnx", "torch.export", "transformers", "onnxscript", "onnx_ir")
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@contextlib.contextmanager
def offline_and_quiet() -> Iterator[None]:
    """No network, nothing on stdout, no warnings, no progress bars; everything is put back afterwards."""
    if find_spec("torch"):
        import_module("torch")  # sets its own levels when it is imported: ours must come after
    hub: Any = import_module("huggingface_hub.constants") if find_spec("huggingface_hub") else None
    online = hub is not None and not hub.HF_HUB_OFFLINE
    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    os.environ.update(_ENVIRONMENT)
    if online:
        hub.HF_HUB_OFFLINE = True
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if online:
            hub.HF_HUB_OFFLINE = False
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Transformers loads weights without drawing a bar; its setting is put back afterwards."""
    bars: Any = import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
