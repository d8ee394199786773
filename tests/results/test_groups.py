"""Images that belong together: what is drawn, swapped and split as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Terminal
from hypothesis import given
from hypothesis import strategies as st
from outcomes import make
from PIL import Image

from gpsweep import results
from gpsweep.errors import GpsweepError
from gpsweep.report.page import page
from gpsweep.report.verdict import verdict
from gpsweep.results.findings import Findings
from gpsweep.results.groups import check_groups, groups_of
from gpsweep.results.halves import halves, plan
from gpsweep.results.outcome import Outcome

BEFORE_THE_DOT = {"groups": r"^([^.]+)\."}


def repeated(outcome: Outcome, times: int, **info: Any) -> Outcome:
    """Return an outcome with each image so often, as if a video had stood still; groups are the images."""
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(outcome.ids)), times))
    copies = outcome.of(order)
    ids = [f"{name}.{number}" for number, name in enumerate(copies.ids)]
    return replace(copies, ids=ids, info={**outcome.info, **BEFORE_THE_DOT, **info})


def test_a_group_is_what_the_pattern_finds() -> None:
    ids = ["p1/s_01", "p1/s_02", "p10/s_01"]
    assert groups_of(None, ids) == ids
    assert groups_of("^[^/]+", ids) == groups_of("^(p[0-9]+)/s", ids) == ["p1", "p1", "p10"]
    assert groups_of("(?:^|_)x?", ids) == [""] * 3
    with pytest.raises(GpsweepError, match=r"data\.groups=\(: expected a regular expression, or null: "):
        groups_of("(", ids)
    with pytest.raises(GpsweepError, match=r"data\.groups=7: expected a regular expression"):
        groups_of(7, ids)  # type: ignore[arg-type]
    with pytest.raises(GpsweepError, match=r"in the id of each image; it is not in 2 of 3: p1/s_01, p1/s_02"):
        groups_of("p10", ids)


def test_a_pattern_that_groups_nothing_is_told() -> None:
    check_groups(None, ["a", "b"])
    check_groups("^.", ["a1", "a2", "b"])
    with pytest.warns(
        UserWarning, match=r"data\.groups=\^\.: no two of the 3 images share a group, such as a, b"
    ):
        check_groups("^.", ["a", "b", "c"])


def test_a_pattern_that_puts_all_images_into_one_group_is_told() -> None:
    with pytest.warns(UserWarning, match=r"data\.groups=\^\.: all of the 2 images share a group, such as a1"):
        check_groups("^.", ["a1", "a2"])
    for pattern in ("", "[0-9]*", "(x)?"):
        with pytest.raises(GpsweepError, match=r"data\.groups=.*: expected to match the part .* a, b$"):
            check_groups(pattern, ["a", "b"])


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), st.booleans())
def test_units_hold_the_sums_of_their_images(names: list[str], classify: bool) -> None:
    outcome = make(
        task="classification" if classify else "segmentation", images=len(names), label="top2", eps=[0, 1]
    )
    ids = [f"{name}.{number}" for number, name in enumerate(names)]
    units = replace(outcome, ids=ids, info=BEFORE_THE_DOT).units
    assert units.ids == list(dict.fromkeys(names if len(set(names)) < len(names) else ids))
    for place, name in enumerate(dict.fromkeys(names)):
        own = [number for number, other in enumerate(names) if other == name]
        np.testing.assert_array_equal(
            np.asarray(units.counts)[:, place], np.asarray(outcome.counts)[:, own].sum(1)
        )
        np.testing.assert_array_equal(units.base[place], outcome.base[own].sum(0, dtype=np.int64))
    assert units.units is units


def test_images_alone_in_their_groups_are_units_as_they_are() -> None:
    outcome = make(images=8, eps=[0, 1])
    assert outcome.units is outcome
    alone = replace(outcome, info={"groups": "[0-9]+"})
    assert alone.units is alone


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_to_repeat_images_within_their_groups_tells_nothing_more(task: str) -> None:
    """Intervals, p-values and what is held out stay; without groups, ever more would seem certain."""
    once = make(task=task, images=13, classes=5, label="random_onehot", eps=[-4, 0, 2, 4], info=half())
    several = repeated(once, 4, **half())
    first, again = Findings(once), Findings(several)
    order = [once.ids.index(name) for name in several.units.ids]
    same = Findings(once.of(order))
    columns = ["score", "base", "delta", "delta_low", "delta_high"]
    pd.testing.assert_frame_equal(again.rows[columns], same.rows[columns])
    for place in range(len(once.points)):
        assert again.p_value(place) == pytest.approx(first.p_value(place))
    naive = results.table(replace(several, info={}))
    narrow, wide = ((rows["delta_high"] - rows["delta_low"]).max() for rows in (naive, again.rows))
    assert narrow < 0.7 * wide
    held = again.split
    assert held is not None and (held["n_tune"].iloc[0], held["n_held"].iloc[0]) == (24, 28)
    part = results.table(several.of(several.halves[1]))
    chosen = part[part["eps"] == held["tune_eps"].iloc[0]].iloc[0]
    assert (held["held_low"].iloc[0], held["held_high"].iloc[0]) == (
        chosen["delta_low"],
        chosen["delta_high"],
    )


def half() -> dict[str, Any]:
    return {"select": {"seed": 0}}


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=30), st.integers(0, 9))
def test_no_group_is_split(names: list[str], seed: int) -> None:
    ids = [f"{name}.{number}" for number, name in enumerate(names)]
    groups = set(names)
    if len(groups) < 2:
        with pytest.raises(GpsweepError, match=r"at least two groups of data\.groups=.* to split, came 1"):
            plan("half", ids=ids, seed=seed, **BEFORE_THE_DOT)
        return
    kept = plan("half", ids=ids, seed=seed, **BEFORE_THE_DOT)
    assert kept is not None
    tune, held = ({names[place] for place in part} for part in halves(ids, **kept, **BEFORE_THE_DOT))
    assert len(tune) == len(groups) // 2 and not tune & held and tune | held == groups


def test_a_split_that_an_older_run_noted_with_its_groups_is_the_same() -> None:
    outcome = repeated(make(images=9, label="argmax", eps=[0, 1]), 3, **half())
    older = replace(outcome, info={**outcome.info, "select": {"seed": 0, **BEFORE_THE_DOT}})
    np.testing.assert_array_equal(older.halves[0], outcome.halves[0])


def test_images_to_tune_on_are_whole_groups() -> None:
    ids = ["a.0", "a.1", "b.0"]
    assert plan("half", ids=ids, tune=["a.0", "a.1"], **BEFORE_THE_DOT) is not None
    with pytest.raises(
        GpsweepError, match=r"data\.tune_split: .* a group of data\.groups=.* came some of a$"
    ):
        plan("half", ids=ids, tune=["a.0", "b.0"], **BEFORE_THE_DOT)


def test_few_groups_of_many_images_are_few() -> None:
    outcome = repeated(make(images=4, label="argmax", eps=[0.4]), 20)
    findings = Findings(outcome)
    findings.rows["delta_low"] = 0.1
    found = verdict(findings)
    assert (found.kind, found.doubt) == ("chance", "few")
    text = page(findings)
    assert "80 images in 4 groups" in text and "4 groups are too few to tell a gain" in text
    assert "over groups of images, which are drawn as one" in text
    known = results.summary(Findings(outcome))
    assert (known["groups"], known["interval"]["over"]) == (4, "groups of images, paired")


def folder(place: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(8):
        for part, shape in (("images", (12, 16, 3)), ("masks", (12, 16))):
            path = place / part / f"patient{number // 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 5, shape, dtype=np.uint8)).save(path)


def test_a_run_takes_groups_from_the_ids(terminal: Terminal) -> None:
    folder(terminal.folder)
    data = ["data=folder", "data.images=images", "data.masks=masks", "data.classes=5", "eps=[-9,0,9]"]
    shared = [*data, "model=custom", "model.net=networks.small", "hydra.run.dir=run"]
    code, _, err = terminal(*shared, "data.groups='^patient9'")
    assert code == 1 and "data.groups=^patient9: expected to be found" in err and "not in 8 of 8" in err
    code, out, err = terminal(*shared, "select=half", "data.groups='^[^/]+'")
    assert code == 0, err
    assert "intervals: over 4 groups of images" in out
    found = results.read(terminal.folder / "run")
    assert found.units.ids == [f"patient{number}" for number in range(4)]
    ours, others = ({found.ids[place].split("/")[0] for place in part} for part in found.halves)
    assert len(ours) == len(others) == 2 and not ours & others
    code, out, err = terminal(*shared)
    assert code == 0 and "groups of images" not in out and "; 0 to go" in err, "counts are of no groups"
    assert results.read(terminal.folder / "run").units.ids == found.ids
