"""The command that takes a run to where torch is not: export."""

from pathlib import Path
from typing import Annotated

from zhichun.cli.options import OverwriteOption, RunArgument, app, option, say, stdout


@app.command()
def export(
    run: RunArgument,
    to: Annotated[
        list[str],
        option(
            "`onnx`, `onnx-int8`, `openvino` (which computes in fp32 and bf16) or `openvino-int8`; may be given "
            "more than once, into one folder."
        ),
    ],
    out: Annotated[Path | None, option("Folder to make; default: RUN/export.")] = None,
    data: Annotated[
        Path | None,
        option(
            "Dataset folder whose pairs calibrate int8 and check every format; the one that the run was trained "
            "on if not given."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Export a run for scoring on a CPU without torch: faster, and the whole model.

    `zhichun score`, `rank` and `evaluate` take the folder in place of the run and choose the fastest safe engine. Every
    format is checked against the model on held-out pairs; int8 is safe where 99 % of the labels are the same.
    """
    from zhichun.cli.tables import checks_table
    from zhichun.score.export.export_folder import ExportConfig
    from zhichun.score.export.export_run import export as export_run
    from zhichun.score.export.exported import choose

    folder = export_run(run, to, out=out, data=data, overwrite=overwrite)
    config = ExportConfig.load(folder)
    stdout.print(checks_table(config.checks))
    say(f"{folder}: exported. Next: zhichun score {folder} PAIRS OUT, by {choose(config, folder)} on this machine")
