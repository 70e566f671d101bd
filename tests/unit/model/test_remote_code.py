"""Code that a checkpoint brings is never run."""

import json
import shutil

import pytest

from zhichun.core.errors import UserError
from zhichun.model.encoder import load_encoder, load_encoder_config, load_lm_head, load_tokenizer, new_encoder

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
Path({ran!r}).touch()
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
class Config(PretrainedConfig):
    model_type = "own"
class Model(PreTrainedModel):
    config_class = Config
class Tokens(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def checkpoint(tiny_run, tmp_path):
    """An encoder of a kind of its own, whose configuration asks for its own code."""
    folder = shutil.copytree(tiny_run / "model" / "encoder", tmp_path / "checkpoint")
    (folder / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    auto = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForMaskedLM": "own.Model"}
    config = {"model_type": "own", "auto_map": auto, "architectures": ["Model"]}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"tokenizer_class": "Tokens", "auto_map": {"AutoTokenizer": ["own.Tokens", "own.Tokens"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize("load", [load_encoder, load_tokenizer])
def test_a_checkpoint_that_asks_for_its_code_is_refused(checkpoint, load, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a person was asked"))
    with pytest.raises(UserError, match=r"cannot be loaded|can be loaded"):
        load(str(checkpoint))
    assert not (checkpoint.parent / "ran").exists()
    assert not (checkpoint / "ran").exists()


def test_neither_its_head_nor_its_configuration_runs_code(checkpoint):
    assert load_lm_head(str(checkpoint)) is None
    with pytest.raises(ValueError, match=r"own|trust"):
        new_encoder(load_encoder_config(checkpoint))
    assert not (checkpoint.parent / "ran").exists()
