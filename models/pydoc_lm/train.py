"""Train the byte-level language model and write its ONNX file, token windows and metadata.

    python -m qcompiler.models.pydoc_lm.train            # about 5 minutes on one core

A Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU) of half a million parameters on bytes. The text
is the English documentation in the standard library's ``pydoc_data.topics``: the topics in sorted order, the last
10 % held out. That text differs between Python versions, so the windows that tests and benchmarks use are stored
beside the model. Another torch version gives other bits; ``MAX_PERPLEXITY`` is what every retraining must reach.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from qcompiler.errors import VerificationError
from qcompiler.models.catalog import PYDOC_LM, pydoc_lm
from qcompiler.models.export import export_transformers
from qcompiler.models.metadata import write_metadata

logger = logging.getLogger(__name__)

SEED = 0
STEPS = 1000
BATCH = 32
WINDOW = 128
WINDOWS_STORED = 64
PEAK_LEARNING_RATE = 4e-3
WARMUP_STEPS = 100
MAX_PERPLEXITY = 3.4


def corpus() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The bytes of all topics in sorted order, uint8 ``[N]``, split into the first 90 % and the last 10 %."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    cut = len(data) * 9 // 10
    return data[:cut], data[cut:]


def windows(data: npt.NDArray[np.uint8], count: int, length: int) -> npt.NDArray[np.int64]:
    """``count`` windows at even distances, int64 ``[count, length]``."""
    starts = np.linspace(0, len(data) - length, count).astype(np.int64)
    return np.stack([data[start : start + length] for start in starts]).astype(np.int64)


def new_model() -> LlamaForCausalLM:
    """About 508k parameters: 2.0 MB of float32."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine to a twentieth of the peak."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)
    return PEAK_LEARNING_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(data: npt.NDArray[np.uint8], steps: int) -> LlamaForCausalLM:
    """AdamW on random windows of ``data``; one thread, so that the time is comparable."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = new_model()
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.3
    )
    for step in range(steps):
        starts = rng.integers(0, len(data) - WINDOW, size=BATCH)
        batch = np.stack([data[start : start + WINDOW] for start in starts]).astype(np.int64)
        tokens = torch.from_numpy(batch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            logger.info("step %d of %d: training perplexity %.2f", step, steps, math.exp(loss.item()))
    model.train(False)
    return model


def build(folder: Path, *, steps: int, checkpoint: Path) -> float:
    """Write model, data and metadata to ``folder``; returns the held-out perplexity per byte of the ONNX model.

    ``checkpoint`` is a Transformers directory: used as it is when it holds one, else written after training.
    """
    training, heldout = corpus()
    if not (checkpoint / "config.json").exists():
        train(training, steps).save_pretrained(checkpoint)
    made = pydoc_lm(folder)
    report = export_transformers(checkpoint, made.onnx, inputs=["input_ids"], attention="eager")
    logger.info("exported: largest error against torch %.2g", report.max_abs_error)
    np.savez_compressed(made.calibration, input_ids=windows(training, WINDOWS_STORED, WINDOW))
    np.savez_compressed(made.heldout, input_ids=windows(heldout, WINDOWS_STORED, WINDOW))
    perplexity = made.evaluate(made.onnx)
    settings = {
        "seed": SEED,
        "steps": steps,
        "batch": BATCH,
        "window": WINDOW,
        "peak_learning_rate": PEAK_LEARNING_RATE,
    }
    write_metadata(
        made, figure=perplexity, recipe="python -m qcompiler.models.pydoc_lm.train", settings=settings
    )
    if perplexity > MAX_PERPLEXITY:
        raise VerificationError(
            f"pydoc_lm: held-out perplexity is {perplexity:.3f}, expected at most {MAX_PERPLEXITY}; train longer."
        )
    return perplexity


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=PYDOC_LM.onnx.parent, help="where to write; default: in place"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--checkpoint", type=Path, help="Transformers directory to keep, or to start from when it exists"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = arguments.checkpoint or Path(scratch)
        logger.info("perplexity %.3f", build(arguments.folder, steps=arguments.steps, checkpoint=checkpoint))


if __name__ == "__main__":
    main()
