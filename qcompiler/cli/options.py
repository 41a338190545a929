"""The options of the commands, by what they are about; defaults stand at the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from qcompiler.errors import OptionError

DATA, PIPELINE, VERIFICATION, OUTPUT = "Data", "Pipeline", "Verification", "Output"

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file.", show_default=False)]

Passes = Annotated[
    str | None,
    typer.Option(
        help="Passes in order, with options: awq,int4:solver=gptq. `qcompile passes` lists them.",
        rich_help_panel=PIPELINE,
        metavar="NAME[:OPTION=VALUE],...",
    ),
]
Recipe = Annotated[
    Path | None,
    typer.Option(help="YAML file with passes, target, include, exclude.", rich_help_panel=PIPELINE),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Where the model will run, with options: ort-cpu:isa=avx2. `qcompile targets` lists them. "
        "Default: ort-cpu.",
        rich_help_panel=PIPELINE,
        metavar="NAME[:OPTION=VALUE]",
    ),
]
SizeFirst = Annotated[
    bool,
    typer.Option(
        "--size-first",
        help="Low-bit weights: no int8 copy for prefill. Short for --target ort-cpu:size_first=true.",
        rich_help_panel=PIPELINE,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        help="Only nodes whose name matches this glob; op:Conv by operator. Repeatable.",
        rich_help_panel=PIPELINE,
        metavar="GLOB",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        help="Leave nodes whose name matches this glob as they are. Repeatable.",
        rich_help_panel=PIPELINE,
        metavar="GLOB",
    ),
]
Opset = Annotated[
    int, typer.Option(help="Lowest opset of the result.", min=21, max=25, rich_help_panel=PIPELINE)
]

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A folder, or a file ending in .onnx. Default: MODEL.qc.onnx beside the model.",
        rich_help_panel=OUTPUT,
    ),
]
ExternalData = Annotated[
    bool | None,
    typer.Option(
        "--external-data/--inline-data",
        help="Weights in a .data file of their own, or inside. Default: outside above 100 MB.",
        rich_help_panel=OUTPUT,
    ),
]
MaxRam = Annotated[
    str | None,
    typer.Option(
        "--max-ram",
        help="Refuse at the start what is estimated to take more memory: 4G, 500MB, 1.5GiB.",
        metavar="SIZE",
        rich_help_panel=OUTPUT,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        help="Also write everything about the result as one HTML file that opens offline.",
        metavar="FILE.html",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout instead of text.", rich_help_panel=OUTPUT)
]
Calib = Annotated[
    str | None,
    typer.Option(
        help="Calibration data: .npz, .npy, .safetensors, .jsonl, a text file, a folder of .npz or of pictures, "
        "or the word random.",
        metavar="PATH",
        rich_help_panel=DATA,
    ),
]
Threads = Annotated[
    int,
    typer.Option(help="Threads of the sessions that are timed.", min=1, rich_help_panel=VERIFICATION),
]


@dataclass(frozen=True)
class Checks:
    """The options that say how a result is proved."""

    verify: Annotated[
        Literal["none", "numerics", "speed"],
        typer.Option(
            help="numerics: compare with the float model; speed: also time both, and put nodes back to float "
            "until the result is not slower.",
            rich_help_panel=VERIFICATION,
        ),
    ] = "speed"
    verify_data: Annotated[
        Path | None,
        typer.Option(
            help="Data to verify on. Default: a part of --calib that calibration does not see.",
            rich_help_panel=VERIFICATION,
        ),
    ] = None
    min_cosine: Annotated[
        float,
        typer.Option(
            help="Lowest cosine accepted between an output and the float model's.",
            min=-1.0,
            max=1.0,
            rich_help_panel=VERIFICATION,
        ),
    ] = 0.9
    threads: Threads = 1
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail where the report would only warn.", rich_help_panel=VERIFICATION),
    ] = False


def with_size_first(target: str | None, *, beside_recipe: bool) -> str:
    """The words of ``--target`` with its option ``size_first`` on.

    Raises:
        OptionError: the target may stand in a recipe, which this would replace, or knows no second form.
    """
    from qcompiler.pipeline.options import describe
    from qcompiler.pipeline.registry import target_class

    if target is None and beside_recipe:
        raise OptionError(
            "--size-first beside a recipe says nothing about its target; write target: ort-cpu:size_first=true there."
        )
    name = (target or "ort-cpu").partition(":")[0]
    if all(option.name != "size_first" for option in describe(target_class(name))):
        raise OptionError(f"--size-first: target {name} keeps one form of every weight anyway; leave it out.")
    return f"{target or name}:size_first=true"
