"""Train the digit classifier and write its ONNX file, data and metadata.

    python -m qcompiler.models.digits.train            # about one minute on one core

A small network with what compilers of convolutions meet: batch norm after every convolution (left unfused in the
file), a residual addition, a depthwise-separable block, max and average pooling. The 1,797 pictures of
scikit-learn's digits (UCI Optical Recognition of Handwritten Digits) are split, stratified by digit, into 1,181 for
training, 256 for calibration and 360 for the test. Another torch version gives other bits; ``MIN_ACCURACY`` is
what every retraining must reach.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants
from torch import nn

from qcompiler.errors import VerificationError
from qcompiler.models.catalog import DIGITS, digits
from qcompiler.models.graph_names import tidy
from qcompiler.models.metadata import write_metadata
from qcompiler.models.quiet import offline_and_quiet

logger = logging.getLogger(__name__)

SEED = 0
EPOCHS = 60
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
CALIBRATION = 256
TEST = 360
MIN_ACCURACY = 0.97


@dataclass(frozen=True)
class Split:
    """Pictures float32 ``[N, 1, 8, 8]`` in [0, 1] and labels int64 ``[N]``."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def splits() -> tuple[Split, Split, Split]:
    """Training, calibration and test part; fixed by ``SEED``."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(labels)), test_size=TEST, random_state=SEED, stratify=labels)
    train, calibration = train_test_split(
        rest, test_size=CALIBRATION, random_state=SEED, stratify=labels[rest]
    )
    first, second, third = (Split(images[rows], labels[rows]) for rows in (train, calibration, test))
    return first, second, third


def convolution(inputs: int, outputs: int, *, kernel: int, groups: int = 1) -> nn.Sequential:
    """Convolution without bias and its batch norm; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """relu(x + f(x)) with two 3x3 convolutions in f."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels, kernel=3)
        self.second = convolution(channels, channels, kernel=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class DigitClassifier(nn.Module):
    """``image [N, 1, 8, 8] -> logits [N, 10]``, about 49k parameters."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = convolution(1, width, kernel=3)
        self.residual = Residual(width)
        self.pool = nn.MaxPool2d(2)
        self.depthwise = convolution(width, width, kernel=3, groups=width)
        self.pointwise = convolution(width, 2 * width, kernel=1)
        self.average = nn.AvgPool2d(4)
        self.classifier = nn.Linear(2 * width, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.residual(torch.relu(self.stem(image))))
        x = torch.relu(self.pointwise(torch.relu(self.depthwise(x))))
        logits: torch.Tensor = self.classifier(self.average(x).reshape(-1, self.classifier.in_features))
        return logits


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The batch moved by up to one pixel in each direction, zeros moved in."""
    down, right = (int(torch.randint(0, 3, (), generator=generator)) for _ in range(2))
    return nn.functional.pad(images, (1, 1, 1, 1))[:, :, down : down + 8, right : right + 8]


def train(data: Split, epochs: int) -> DigitClassifier:
    """AdamW with a one-cycle learning rate on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = DigitClassifier().train()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=epochs * steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            logits = model(shifted(images[rows], generator))
            loss = nn.functional.cross_entropy(logits, labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        logger.info("epoch %d of %d: loss %.4f", epoch + 1, epochs, loss.item())
    return model.eval()


def export(model: DigitClassifier, path: Path) -> None:
    """Write standard ONNX with a dynamic batch; constants are folded, batch norms stay."""
    axes = {"image": {0: "batch"}}
    with offline_and_quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 1, 8, 8),),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}},
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise VerificationError("digits: the torch exporter returned nothing; use torch >= 2.13.")
    fold_constants(program.model)
    RemoveUnusedNodesPass()(program.model)
    tidy(program.model, axes)
    ir.save(program.model, path)


def build(folder: Path, *, epochs: int) -> float:
    """Write the model, its data and its metadata to ``folder``; returns the test accuracy of the ONNX model."""
    training, calibration, test = splits()
    made = digits(folder)
    export(train(training, epochs), made.onnx)
    np.savez_compressed(made.calibration, image=calibration.images)
    np.savez_compressed(made.heldout, image=test.images)
    if made.labels is not None:
        np.save(made.labels, test.labels)
    accuracy = made.evaluate(made.onnx)
    settings = {"seed": SEED, "epochs": epochs, "batch": BATCH, "peak_learning_rate": PEAK_LEARNING_RATE}
    write_metadata(made, figure=accuracy, recipe="python -m qcompiler.models.digits.train", settings=settings)
    if accuracy < MIN_ACCURACY:
        raise VerificationError(
            f"digits: accuracy is {accuracy:.4f}, expected at least {MIN_ACCURACY}; train longer."
        )
    return accuracy


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=DIGITS.onnx.parent, help="where to write; default: in place"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("test accuracy %.4f", build(arguments.folder, epochs=arguments.epochs))


if __name__ == "__main__":
    main()
