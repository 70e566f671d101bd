"""Options of several values."""

import pytest
import typer

from zhichun.cli.options import mapping


def test_a_mapping_names_each_thing_once():
    assert mapping("3=E, 2 = S,", "--labels") == {"3": "E", "2": "S"}
    with pytest.raises(typer.BadParameter, match="names something twice"):
        mapping("3=E,2=S,3=I", "--labels")
    with pytest.raises(typer.BadParameter, match="is not of the form name=value"):
        mapping("3", "--labels")
