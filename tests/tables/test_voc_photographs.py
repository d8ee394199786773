"""The labels of Fig. 8 and the layers of Table 4 on photographs of VOC, its network untrained."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Terminal
from written import csv_rows

LAYER = "encoder.features.6"


@pytest.mark.data
@pytest.mark.parametrize(
    ("axis", "values"),
    [("label", ["argmax", "random_onehot", "uniform", "top2"]), ("layer", ["input", LAYER])],
    ids=["fig8", "table4"],
)
def test_photographs_are_read_and_judged(
    terminal: Terminal, data_root: Path, axis: str, values: list[str]
) -> None:
    network = ["model=smp", "model.arch=Linknet", "model.encoder=mobilenet_v2"]
    data = ["data=voc", f"data.root={data_root / 'VOCdevkit'}", "data.split=here_val", "data.limit=3"]
    data += ["data.size=[75,100]"]  # of sides that the network pads, as those of the photographs
    grid = [f"{axis}={','.join(values)}", "eps=-4,0,4", "select=half"]
    with pytest.warns(UserWarning, match="weights are random"):
        assert terminal("-m", *network, *data, *grid)[0] == 0
    [path] = terminal.results()
    rows = csv_rows(path)
    assert {row[axis] for row in rows} == set(values)
    assert len(rows) == 3 * len(values)
    assert {row["samples"] for row in rows} == {"3"}
    assert float(rows[0]["base"]) > 0
    for value in values:
        assert any(float(row["delta"]) for row in rows if row[axis] == value), "nothing has moved"
    assert path.with_name("selection.csv").is_file()
