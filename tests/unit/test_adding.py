"""A new metric, loss, ranking loss, second view and pretext task, added to a copy as CONTRIBUTING.md says."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import zhichun
from zhichun.fit.recipe import PretrainingRecipe, load_recipe
from zhichun.model.encoder_settings import EncoderSettings

ROOT = Path(__file__).parents[2]
CARD = '''"""{what}.

Equation   its own
Reference  our own
Our number no gain measured: it is made by a test
Cost       none
Traps      none but these
"""
'''
ADDED = {
    "metric": (
        "hit_rate",
        "HitRate",
        '''
from dataclasses import dataclass

from zhichun.metrics.metric import BinaryRankingMetric


@dataclass(frozen=True, repr=False)
class HitRate(BinaryRankingMetric):
    """Whether a relevant document is there."""

    title = "hits among all"

    @property
    def _short_name(self):
        return "hit_rate"

    @classmethod
    def reported(cls, classes):
        return (cls(),)

    def _values(self, judged):
        found = judged.tied_groups.sum_per_query(self._relevant_per_group(judged), len(judged.queries))
        return (found > 0).astype(float)
''',
    ),
    "loss": (
        "halved",
        "Halved",
        '''
from dataclasses import dataclass

from zhichun.objective.losses.cross_entropy import CrossEntropy
from zhichun.objective.losses.classification import ClassificationLoss


@dataclass(frozen=True, kw_only=True)
class Halved(ClassificationLoss):
    """Half of cross-entropy.

    Parameters
    ----------
    factor
        What cross-entropy is multiplied with.
    """

    factor: float = 0.5

    def of_classes(self, log_q_BC, target_BC):
        return self.factor * CrossEntropy().of_classes(log_q_BC, target_BC)
''',
    ),
    "ranking loss": (
        "first_alone",
        "FirstAlone",
        '''
from dataclasses import dataclass

from zhichun.objective.ranking.of_lists import RankingLoss


@dataclass(frozen=True, kw_only=True)
class FirstAlone(RankingLoss):
    """How far each list's first score is from its gain."""

    def of_lists(self, score_LM, gain_LM, mask_LM):
        return (score_LM[:, 0].sigmoid() - gain_LM[:, 0]).abs()
''',
    ),
    "second view": (
        "same_again",
        "SameAgain",
        '''
from dataclasses import dataclass

from zhichun.core.errors import UserError
from zhichun.objective.views import View


@dataclass(frozen=True, kw_only=True)
class SameAgain(View):
    """The batch again, from the second step on."""

    first_step: int | None = 2

    def check(self, model):
        if model.outputs == 1:
            raise UserError("SameAgain is of classes.", remedy="Use --set objective.second_view=null.")

    def second_view(self, first):
        return first.moved()
''',
    ),
    "pretext task": (
        "other_mlm",
        "OtherMLM",
        '''
from dataclasses import dataclass
from typing import ClassVar

from zhichun.objective.pretext.mlm import MLM, MLMHead
from zhichun.objective.pretext.task import Pretext


@dataclass(frozen=True, kw_only=True)
class OtherMLM(Pretext):
    """The masked language model, learnt a second time.

    Parameters
    ----------
    weight
        Weight in the objective.
    """

    name: ClassVar[str] = "other_mlm"
    weight: float = 0.5

    def examples(self, texts, catalogue, reader, draw):
        return MLM().examples(texts, catalogue, reader, draw)

    def head(self, encoder, sizes):
        return MLMHead(encoder)
''',
    ),
}


def where_to_add() -> dict[str, tuple[str, str]]:
    """Read the table of CONTRIBUTING.md: for each kind the file to make and the file that gets one line."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (?:an? )?([a-z ]+) \| `(src/\S+/)NAME\.py` \| `(src/\S+)` \|", text, re.MULTILINE)
    return {kind: (folder, line) for kind, folder, line in rows}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with all of them added, each by one file and one line."""
    root = tmp_path_factory.mktemp("adding")
    shutil.copytree(Path(zhichun.__file__).parent, root / "src" / "zhichun")
    for kind, (module, name, text) in ADDED.items():
        folder, line = where_to_add()[kind]
        (root / folder / f"{module}.py").write_text(CARD.format(what=name) + text, "utf-8")
        imported = f"from {folder.removeprefix('src/').replace('/', '.')}{module} import {name} as {name}\n"
        with (root / line).open("a", encoding="utf-8") as file:
            file.write(imported)
    return root / "src"


IN_ONE_PROCESS = """
import contextlib, io, json, sys
from zhichun.cli import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    sys.__stdout__.write(json.dumps([code or 0, said.getvalue()]) + "\\n")
"""


@pytest.fixture(scope="module")
def said(package, tiny_recipe, tiny_dataset):
    """Run commands with the copy, all in one process; gives what each said, and checks that it did not fail."""
    folder = package.parent
    recipe = as_file(tiny_recipe, folder / "recipe.json")
    settings = ["--set=objective.loss=Halved", "--set=objective.second_view=SameAgain"]
    settings += ["--set=train.lists=Lists", "--set=objective.ranking=FirstAlone"]
    model = EncoderSettings(tiny=tiny_recipe.model.tiny, max_length=tiny_recipe.model.max_length)
    off = [f"objective.{name}=null" for name in ("product2query", "product2brand", "product2color", "contrastive")]
    small = ["train.epochs=1", "train.batch_size=100", "train.held_out=0.1", *off]
    pretraining = replace(load_recipe("tiny:pretrain", PretrainingRecipe), model=model).with_settings(small)
    pretraining, data = as_file(pretraining, folder / "pretraining.json"), ["--data", tiny_dataset]
    commands = {
        "recipe": ["recipe", recipe, *settings],
        "train": ["train", recipe, *data, "--out", folder / "run", *settings],
        "evaluate": ["evaluate", folder / "run", *data],
        "pretraining": ["recipe", pretraining],
        "pretrain": ["pretrain", pretraining, *data, "--out", folder / "pre", "--set=objective.other_mlm=OtherMLM"],
    }
    given = json.dumps([[str(argument) for argument in arguments] for arguments in commands.values()])
    environment = {**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"}
    line = [sys.executable, "-c", IN_ONE_PROCESS, given]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [code for code, _ in found] == [0] * len(commands), found
    return dict(zip(commands, (said for _, said in found), strict=True))


def as_file(recipe, path):
    path.write_text(json.dumps(recipe.to_json()), "utf-8")
    return path


def test_what_was_added_is_everywhere(package, said):
    run = package.parent / "run"
    assert re.search(r"objective\.loss\.factor +│ 0\.5 +│ What cross-entropy is multiplied with\.", said["recipe"])
    assert re.search(r"objective\.second_view\.first_step +│ 2 ", said["recipe"])
    assert "hit_rate" in said["evaluate"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [record.get("parts", {}) for record in records if "loss" in record]
    assert ["second_view" in parts for parts in steps] == [False] + [True] * (len(steps) - 1)
    assert all(parts["ranking"] > 0 for parts in steps)
    measured = json.loads((run / "metrics.json").read_text("utf-8"))
    assert all(0 < figures["hit_rate"] <= 1 for figures in (measured, measured["random_order"]))
    assert "hits among all" in (run / "report.html").read_text("utf-8")


def test_a_pretext_task_that_was_added_has_a_setting_a_loss_and_a_name(package, said):
    run, shown = package.parent / "pre", said["pretraining"]
    assert re.search(r"objective\.other_mlm +│ null +│ The masked language model, learnt a second time\.", shown), shown
    assert "other_mlm.loss" in (run / "metrics.jsonl").read_text("utf-8")
    assert "Pre-training with MLM, OtherMLM" in (run / "report.html").read_text("utf-8")


def test_the_table_has_every_kind():
    assert set(ADDED) <= set(where_to_add())
