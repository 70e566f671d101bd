"""Export a run: its graphs, its tables and all that reads texts, checked against the model on held-out pairs.

Legend: ``P`` pairs, ``C`` outputs.
"""

import importlib.metadata
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from zhichun.core import schema
from zhichun.core import settings as codec
from zhichun.core.arrays import Int64
from zhichun.core.console import Bar
from zhichun.core.device import has_bf16
from zhichun.core.errors import UserError, suggest
from zhichun.core.files import new_folder, sha256
from zhichun.core.tasks import Floats, Task
from zhichun.data.dataset import Dataset
from zhichun.data.feature_store import open_pairs
from zhichun.data.predictions import held_out_by, trained_on
from zhichun.model.interaction import SplitEncoder
from zhichun.model.model_folder import TrainedModel
from zhichun.score.engine import Engine, predict_with, required
from zhichun.score.export.export_folder import FORMATS, Apart, Check, ExportConfig, GraphInputs, is_export
from zhichun.score.export.exported import open_engine
from zhichun.score.export.graph import OPSET, inputs_of, write_onnx, write_sentences
from zhichun.score.export.quantise import write_onnx_int8, write_openvino, write_openvino_int8
from zhichun.score.folders import fingerprint, finished, is_stack
from zhichun.score.index.store import whose_states
from zhichun.score.make_ensemble import COPIES
from zhichun.score.similarity import NAME as SIMILARITY
from zhichun.score.stacked import StackConfig, load_stage, save_stack
from zhichun.score.torch_engine import TorchEngine
from zhichun.text.pairs import Pairs

LIBRARIES: Final = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "onnx-int8": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino-int8": ("onnx", "onnxscript", "openvino", "nncf"),
}
# Logits of a graph in fp32 may differ so much from torch's, relative to the greatest where that is above 1.
TOLERANCE: Final = 1e-3
CALIBRATED: Final = 300
CHECKED: Final = 500


def export(
    run: Path,
    formats: Sequence[str],
    *,
    out: Path | None = None,
    data: Path | None = None,
    overwrite: bool = False,
    shown: bool = True,
) -> Path:
    """Export a run, or a stack with the models under it.

    Parameters
    ----------
    run
        Run folder of a finished training, or a folder of `zhichun stack`.
    formats
        Which of `zhichun.score.export.export_folder.FORMATS`.
    out
        Folder to make; ``RUN/export`` if not given.
    data
        Dataset folder with the pairs to calibrate int8 with and to check on; the one that the run was trained on, if
        not given.
    overwrite
        Whether to replace an export that is there.
    shown
        Whether to show progress.

    Returns
    -------
    Path
        The folder, which appears when it is complete; of a stack a stack again, which holds its exported models.

    Raises
    ------
    UserError
        For a run that is not finished, an unknown format, a library that is missing, a dataset that is not there, an
        encoder that cannot be exported, or an export that does not score like the model.
    """
    formats = _checked_formats(formats)
    if is_stack(run):
        return _export_stack(run, formats, run / "export" if out is None else out, data, overwrite, shown)
    model = finished(run)
    out = run / "export" if out is None else out
    with new_folder(out, overwrite=overwrite, replaceable=is_export) as folder, Bar("export", shown=shown) as bar:
        bar.start(0, 2 * len(formats) + 2)
        trained = TrainedModel.load(model)
        apart = _apart(trained, run, formats)
        sample = Sample.draw(run, trained, data or recorded_data(run))
        inputs = inputs_of(trained)
        config = ExportConfig(
            task=trained.task.name,
            max_length=trained.settings.max_length,
            fields=trained.settings.fields,
            inputs=inputs.names,
            side_features=inputs.sizes,
            checks={},
            reads_lists=trained.model.lists is not None,
            apart=apart,
            about={"model": codec.encode(trained.settings), "opset": OPSET, "libraries": _libraries(formats)},
        )
        trained.featurizer.save(folder)
        trained.task.calibration.save(folder)
        inputs.save(folder)
        _write_graphs(folder, formats, trained, inputs, sample, bar)
        replace(config, checks=_checks(folder, config, formats, trained, sample, bar)).save(folder)
    return out


def _apart(trained: TrainedModel, run: Path, formats: Sequence[str]) -> Apart | None:
    """Say how a model reads query and product apart, if it does; its graphs are in fp32, as the states are."""
    encoder = trained.model.encoder
    if not isinstance(encoder, SplitEncoder):
        return None
    others = [name for name in formats if FORMATS[name][1] != "fp32"]
    if others:
        problem = f"a model that reads query and product apart cannot be exported to {others[0]}."
        raise UserError(problem, file=run, remedy="Export it to onnx or openvino.")
    states, settings = whose_states(run / "model"), encoder.settings
    return Apart(states=states, size=encoder.state, hidden=encoder.hidden, query_tokens=settings.query_tokens)


def _export_stack(
    stack: Path, formats: Sequence[str], out: Path, data: Path | None, overwrite: bool, shown: bool
) -> Path:
    config = StackConfig.load(stack)
    with new_folder(out, overwrite=overwrite, replaceable=is_stack) as folder:
        members = []
        for entry, model in zip(config.members, config.locate(stack), strict=True):
            path = f"{COPIES}/{entry.fingerprint}"
            export(model.parent, formats, out=folder / path, data=data, shown=shown)
            members.append(replace(entry, path=path, fingerprint=fingerprint(folder / path)))
        stage = load_stage(stack, config)
        if stage.similarity is not None:
            write_sentences(stage.similarity, folder / SIMILARITY)
        save_stack(replace(stage, similarity=None), members, config.folds, config.made, folder)
    return out


def _checked_formats(formats: Sequence[str]) -> list[str]:
    if not formats:
        raise UserError("nothing to export to.", remedy=f"Possible: {', '.join(FORMATS)}.")
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"there is no format {name!r}.", remedy=suggest(name, FORMATS))
        for library in LIBRARIES[name]:
            required(library)
    return list(dict.fromkeys(formats))


@dataclass(frozen=True)
class Sample:
    """Pairs of a dataset.

    Parameters
    ----------
    pairs
        All of its pairs.
    calibration
        Int64 of pairs that were trained on.
    check
        Int64 of pairs that were held out, ``[P]``.
    """

    pairs: Pairs
    calibration: Int64
    check: Int64

    @classmethod
    def draw(cls, run: Path, trained: TrainedModel, data: Path) -> "Sample":
        """Draw pairs as a run's recipe parts them; always the same ones."""
        dataset = Dataset.open(data)
        training, held_out = dataset.split(held_out_by(run))
        pairs = open_pairs(dataset, trained.featurizer, trained.settings.max_length)
        chance = np.random.default_rng(0)
        return cls(pairs, chance.permutation(training)[:CALIBRATED], chance.permutation(held_out)[:CHECKED])

    def logits(self, engine: Engine) -> Floats:
        """Score the pairs to check, ``[P, C]``."""
        return predict_with(engine, self.pairs, self.check)


def _write_graphs(
    folder: Path, formats: Sequence[str], trained: TrainedModel, inputs: GraphInputs, sample: Sample, bar: Bar
) -> None:
    """Write the graph of each format; all are made from that in fp32, which goes if nobody wants it."""
    bar.note("tracing the network")
    plain = folder / ("onnx" if "onnx" in formats else "partial-onnx") / FORMATS["onnx"][0]
    plain.parent.mkdir()
    write_onnx(trained, inputs, plain)
    bar.advance(0)
    for name in formats:
        bar.note(f"making {name}")
        graph = folder / name / FORMATS[name][0]
        graph.parent.mkdir(exist_ok=True)
        if name == "openvino":
            for part in plain.parent.glob("*.onnx"):  # of a model that reads query and product apart three
                write_openvino(part, graph.with_stem(part.stem))
        elif name != "onnx":  # which is the plain graph itself
            calibration = [inputs.of(sample.pairs.collate(np.asarray([row]))) for row in sample.calibration]
            write_int8 = write_onnx_int8 if name == "onnx-int8" else write_openvino_int8
            write_int8(plain, graph, calibration)
        bar.advance(0)
    if "onnx" not in formats:
        shutil.rmtree(plain.parent)


def _checks(
    folder: Path, config: ExportConfig, formats: Sequence[str], trained: TrainedModel, sample: Sample, bar: Bar
) -> dict[str, Check]:
    """Compare each engine with the model that it was made from; refuses one in fp32 that does not score like it."""
    bar.note(f"checking on {len(sample.check):,} held-out pairs")
    expected_PC = sample.logits(TorchEngine.of(trained.model))
    most = TOLERANCE * max(1.0, float(abs(expected_PC).max()))
    bar.advance(0)
    checks = {}
    for name in formats:
        in_bf16 = name == "openvino" and config.apart is None and has_bf16()
        for engine in (name, "openvino-bf16") if in_bf16 else (name,):
            found_PC = sample.logits(open_engine(folder, config, engine))
            check = checks[engine] = compare(trained.task, expected_PC, found_PC)
            if FORMATS.get(engine, ("", ""))[1] == "fp32" and not check.logits <= most:
                kind = trained.model.encoder.model.config.model_type
                raise UserError(
                    f"the {name} graph of an encoder of the kind {kind!r} does not score like the model: its logits "
                    f"differ by {check.logits:.2g}.",
                    remedy="Score the run with torch, or export it to another format.",
                )
        bar.advance(0)
    return checks


def compare(task: Task, expected_PC: Floats, found_PC: Floats) -> Check:
    """Compare an export's logits with those of the model that it was made from."""
    expected, found = task.predict(expected_PC), task.predict(found_PC)
    same = None
    if expected.probabilities is not None and found.probabilities is not None:
        same = float((expected.probabilities.argmax(axis=1) == found.probabilities.argmax(axis=1)).mean())
    return Check(
        pairs=len(found_PC),
        labels=same,
        score=float(np.abs(found.score - expected.score).mean()),
        logits=float(np.abs(found_PC - expected_PC).max()),
    )


def recorded_data(run: Path) -> Path:
    """Find the dataset folder that a run was trained on."""
    remedy = "Name a dataset folder with --data: exports are calibrated and checked on its pairs."
    data, recorded = trained_on(run, remedy)
    manifest = data / schema.MANIFEST_FILE
    if not manifest.is_file():
        raise UserError("the dataset that the run was trained on is not there.", file=data, remedy=remedy)
    if sha256(manifest) != recorded:
        raise UserError("the dataset has changed since the run was trained on it.", file=data, remedy=remedy)
    return data


def _libraries(formats: Sequence[str]) -> dict[str, str]:
    names = {"zhichun", "torch", "transformers", *(library for name in formats for library in LIBRARIES[name])}
    return {name: importlib.metadata.version(name) for name in sorted(names)}
