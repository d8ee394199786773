from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpsweep.errors import GpsweepError
from gpsweep.labels import STRATEGIES, Hints, likeliest
from gpsweep.points import LABELS

Z = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, -2.0]])


def test_every_name_has_a_strategy() -> None:
    assert set(LABELS) == set(STRATEGIES)


@given(
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(1, 2), (3, 7), (2, 3, 4, 5), (1, 21, 3, 1)]),
    name=st.sampled_from(LABELS),
)
def test_distributions_sum_to_one_and_are_not_negative(seed: int, shape: tuple[int, ...], name: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, generator=generator)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    label = STRATEGIES[name](z, Hints(target=target))
    assert label.shape == z.shape
    assert label.min() >= 0
    torch.testing.assert_close(label.sum(1), torch.ones_like(label.sum(1)))


def test_values() -> None:
    assert STRATEGIES["argmax"](Z, Hints()).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert STRATEGIES["top2"](Z, Hints()).tolist() == [[0, 0.5, 0.5], [0.5, 0.5, 0]]
    assert torch.allclose(STRATEGIES["uniform"](Z, Hints()), torch.full_like(Z, 1 / 3))
    truth = STRATEGIES["ground_truth"](Z, Hints(target=torch.tensor([2, 1])))
    assert truth.tolist() == [[0, 0, 1], [0, 1, 0]]
    for void in (-1, 3, 255):
        truth = STRATEGIES["ground_truth"](Z, Hints(target=torch.tensor([void, 0])))
        assert truth.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_random_labels_are_seeded_by_seed_and_sample() -> None:
    z = torch.zeros(2, 5, 8, 9)

    def draw(ids: list[str], seed: int = 0, unit: str = "pixel") -> torch.Tensor:
        return STRATEGIES["random_onehot"](z[: len(ids)], Hints(sample_ids=ids, seed=seed, random_unit=unit))

    both = draw(["a", "b"])
    assert both[1].equal(draw(["b"])[0])
    assert not both[0].equal(both[1])
    assert not draw(["a"], seed=1).equal(draw(["a"]))
    assert len(both[0].argmax(0).unique()) == 5
    whole = draw(["a", "b"], unit="image").argmax(1)
    assert [len(image.unique()) for image in whole] == [1, 1]


def test_an_image_whose_class_is_drawn_as_a_whole_has_it_in_every_batch() -> None:
    z, ids = torch.zeros(40, 5, 2, 3), [str(number) for number in range(40)]
    drawn = STRATEGIES["random_onehot"](z, Hints(sample_ids=ids, random_unit="image"))
    alone = STRATEGIES["random_onehot"](z[:1], Hints(sample_ids=ids[7:8], random_unit="image"))
    assert drawn[7].equal(alone[0])
    assert len(drawn.argmax(1).unique()) == 5


@pytest.mark.parametrize("own", [(5,), (5, 7), (2, 5, 7)])
def test_random_labels_do_not_depend_on_the_padding(own: tuple[int, ...]) -> None:
    valid = torch.zeros(1, *(side + 2 for side in own), dtype=torch.bool)
    inside = tuple(slice(side) for side in own)
    valid[0][inside] = True
    padded = STRATEGIES["random_onehot"](
        torch.zeros(1, 5, *valid[0].shape), Hints(sample_ids=["a"], valid=valid)
    )
    plain = STRATEGIES["random_onehot"](torch.zeros(1, 5, *own), Hints(sample_ids=["a"]))
    assert padded[0][:, *inside].equal(plain[0])


def test_a_classifiers_random_labels_are_those_of_images_without_padding() -> None:
    z, valid = torch.zeros(2, 5), torch.ones(2, 8, 9, dtype=torch.bool)
    padded = STRATEGIES["random_onehot"](z, Hints(sample_ids=["a", "b"], valid=valid))
    assert padded.equal(STRATEGIES["random_onehot"](z, Hints(sample_ids=["a", "b"])))


def test_ground_truth_needs_a_fitting_target() -> None:
    with pytest.raises(GpsweepError, match="expected a target, came none"):
        STRATEGIES["ground_truth"](Z, Hints())
    with pytest.raises(GpsweepError, match=r"expected a target \(2,\), came \(3,\)"):
        STRATEGIES["ground_truth"](Z, Hints(target=torch.zeros(3, dtype=torch.long)))


def test_the_truth_in_other_classes_is_shared_by_those_that_stand_for_it() -> None:
    z = torch.zeros(1, 4, 1, 5)
    target = torch.tensor([[[0, 1, 2, -1, 255]]])
    hints = Hints(target=target, class_map=[0, 1, 0, -1])
    assert STRATEGIES["ground_truth"](z, hints)[0, :, 0].T.tolist() == [
        [0.5, 0, 0.5, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],  # no class stands for it
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    single = Hints(target=torch.tensor([1, 0]), class_map=[0, 1, 1])
    assert STRATEGIES["ground_truth"](Z, single).tolist() == [[0, 0.5, 0.5], [1, 0, 0]]
    with pytest.raises(GpsweepError, match="class_map: expected one for each of 4 classes, came 2"):
        STRATEGIES["ground_truth"](z, Hints(target=target, class_map=[0, 1]))


def test_a_class_map_of_itself_leaves_the_truth_as_it_is() -> None:
    target = torch.tensor([2, -1])
    plain = STRATEGIES["ground_truth"](Z, Hints(target=target))
    assert STRATEGIES["ground_truth"](Z, Hints(target=target, class_map=range(3))).equal(plain)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("classes", [3, 300])
def test_a_target_may_be_of_any_whole_numbers(kind: torch.dtype, classes: int) -> None:
    z, target = torch.zeros(2, classes, 2), torch.tensor([[0, 2], [1, 255]])
    found = STRATEGIES["ground_truth"](z, Hints(target=target.to(kind)))
    assert found.equal(STRATEGIES["ground_truth"](z, Hints(target=target)))


def test_a_target_of_fractions_is_refused() -> None:
    with pytest.raises(GpsweepError, match=r"expected a target of whole numbers, came torch\.float32"):
        STRATEGIES["ground_truth"](Z, Hints(target=torch.zeros(2)))


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(
        st.integers(1, 3),
        st.integers(1, 23) | st.sampled_from([64, 65]),
        st.integers(1, 9),
        st.integers(1, 70) | st.sampled_from([96, 144, 160, 192]),
    ),
    kind=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    levels=st.sampled_from([2, 1000]),
)
def test_the_likeliest_class_is_the_first_of_the_largest(
    seed: int, shape: tuple[int, ...], kind: torch.dtype, layout: torch.memory_format, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(-levels, levels, shape, generator=generator).to(kind).contiguous(memory_format=layout)
    z = z.where(torch.rand(shape, generator=generator) > 0.1, -torch.inf)
    want = torch.from_numpy(z.double().numpy().argmax(1))  # NumPy promises the first
    assert torch.equal(likeliest(z), want)
    assert torch.equal(likeliest(z[..., ::2]), want[..., ::2])
    assert torch.equal(likeliest(z[:, :, :5, :96]), want[:, :5, :96])
    assert torch.equal(likeliest(z.flatten(2)), want.flatten(1))
