from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from digits import TRAINED_ON, Digits, digits, trained
from torch import Tensor

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.knn import AT, COMBINE, KnnGuide
from gpsweep.knn.gallery import LOOKED_AT, MOST, Gallery
from gpsweep.knn.neighbours import WEIGHTS
from gpsweep.points import SIGNALS, STEPS, Point

TESTED = 1797
K = 3


def guide(cache: Path | None = None, source: Digits | None = None, **options: Any) -> KnnGuide:
    gallery = Gallery(trained(), source or digits(), features="hidden", cache=cache)
    return KnnGuide(gallery, **{"k": K} | options)


def few(count: int = 5) -> Tensor:
    return digits(TRAINED_ON, TRAINED_ON + count).images.float()


def features(x: Tensor) -> Tensor:
    net = trained().net
    grey = x.mean(1, keepdim=True) / 255
    with torch.no_grad():
        return net.hidden(net.conv2(net.pool(net.conv1(grey).relu())).relu().flatten(1)).double()


def gradient(x: Tensor, classes: Tensor, signal: str) -> Tensor:
    """Pull the signal of one class an image back to the input."""
    leaf = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    z = trained()(leaf.clone())
    y = z.detach().double().softmax(1)
    label = torch.eye(10).double()[classes]
    own = (label * y).sum(1, keepdim=True)
    error = {
        "eq5": own * (label - y),
        "cross_entropy": label - y,
        "likelihood": y * (label - own),
    }[signal]
    return torch.autograd.grad(z, leaf, error.float())[0]


def direction(x: Tensor, at: str, combine: str, weights: str, signal: str, step: str) -> Tensor:
    """kNN-guided perturbation, written down plainly for one image after the other."""
    data = digits()
    index, steps = features(data.images.float()), {"sign": torch.sign, "rms": over_rms}
    out = []
    for image in x:
        distances = (index - features(image[None])).square().sum(1).sqrt()
        rows = distances.argsort(stable=True)[:K].tolist()
        near = distances[rows]
        inverse = 1 / near
        weight = {"equal": torch.full((K,), 1 / K), "distance": inverse / inverse.sum()}
        weight["softmax"] = (-near).exp() / (-near).exp().sum()
        parts = []
        for row in rows:
            if at == "input":
                parts.append(gradient(image[None], data.targets[row : row + 1], signal)[0])
            else:
                some = slice(row // MOST * MOST, (row // MOST + 1) * MOST)
                parts.append(gradient(data.images[some].float(), data.targets[some], signal)[row % MOST])
        if combine == "sum_of_signs":
            out.append(sum(w.float() * steps[step](g) for w, g in zip(weight[weights], parts, strict=True)))
        else:
            out.append(steps[step](sum(w.float() * g for w, g in zip(weight[weights], parts, strict=True))))
    return torch.stack(out)


def over_rms(gradient: Tensor) -> Tensor:
    return gradient / gradient.square().mean().sqrt()


@pytest.mark.parametrize(("at", "combine", "weights"), list(product(AT, COMBINE, WEIGHTS)))
def test_every_combination_is_the_plain_loop(at: str, combine: str, weights: str) -> None:
    x = few()
    found = guide(at=at, combine=combine, weights=weights)
    walk = curve(
        trained(),
        x,
        [4.0],
        "knn",
        signal=SIGNALS,
        step=STEPS,
        guides={"knn": found},
        memory_format="contiguous",
    )
    for point, logits in walk:
        expected = x + 4 * direction(x, at, combine, weights, point.signal, point.step)
        with torch.no_grad():
            # Batched passes and others round differently, and signs of what is almost 0 with them.
            torch.testing.assert_close(logits, trained()(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("combine", COMBINE)
def test_where_all_gradients_will_be_wanted_the_images_are_read_and_run_once(combine: str) -> None:
    x = few()
    [(_, expected)] = curve(trained(), x, [4.0], "knn", guides={"knn": guide(combine=combine)})
    data = digits()
    found = guide(source=data, combine=combine, images=10)
    data.reads.clear()
    [(_, logits)] = curve(trained(), x, [4.0], "knn", guides={"knn": found})
    assert logits.equal(expected)
    assert len(data.reads) <= len(data) + LOOKED_AT
    data.reads.clear()
    assert len(list(curve(trained(), few(9), [4.0], "knn", guides={"knn": found}))) == 1
    assert data.reads == []
    assert not guide(images=2).everywhere


def test_weights_and_gradients_give_a_bounded_step() -> None:
    x = few(40)
    seen: list[Tensor] = []
    with trained().register_forward_pre_hook(lambda module, args: seen.append(args[0].clone())):
        list(curve(trained(), x, [6.0], "knn", guides={"knn": guide()}))
    moved = seen[-1] - x
    assert moved.abs().max() <= 6 * (1 + 1e-6)
    thirds = moved / 2
    torch.testing.assert_close(thirds, thirds.round(), rtol=0, atol=1e-3)
    assert set(thirds.round().unique().tolist()) >= {-3, -1, 1, 3}


@pytest.mark.parametrize("at", AT)
def test_neighbours_help_where_epsilon_is_positive_and_hurt_where_it_is_negative(at: str) -> None:
    data = digits(TRAINED_ON, TESTED)
    x, found = data.images.float(), guide(at=at)
    right = {
        point.eps: (logits.argmax(1) == data.targets).double().mean().item()
        for point, logits in curve(trained(), x, [-8, 0, 8], "knn", guides={"knn": found})
    }
    assert right[8] > right[0] + 0.005
    assert right[-8] < right[0] - 0.05
    voted = (found.vote(x) == data.targets).double().mean().item()
    assert voted > right[0]


def test_the_vote_is_the_plain_classifier() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    data = digits(TRAINED_ON, TESTED)
    x = data.images.float()
    plain = KNeighborsClassifier(1).fit(features(digits().images.float()), digits().targets)
    assert guide(k=1).vote(x).tolist() == plain.predict(features(x)).tolist()
    plain = KNeighborsClassifier(5, weights="distance").fit(
        features(digits().images.float()), digits().targets
    )
    assert guide(k=5, weights="distance").vote(x).tolist() == plain.predict(features(x)).tolist()


def test_the_batch_before_does_not_matter(tmp_path: Path) -> None:
    data = digits(TRAINED_ON, TRAINED_ON + 20)
    options: dict[str, Any] = {"eps": [4.0], "label": "knn", "signal": SIGNALS, "step": STEPS}
    for batch in data.images.split([6, 14]):
        used, fresh, cached = guide(cache=tmp_path), guide(), guide(cache=tmp_path)
        list(curve(trained(), few(9), guides={"knn": used}, **options))
        used.save()
        walks = [
            curve(trained(), batch.float(), guides={"knn": each}, **options) for each in (used, fresh, cached)
        ]
        for (_, first), (_, second), (_, third) in zip(*walks, strict=True):
            assert first.equal(second)
            assert first.equal(third)


def test_how_queries_are_batched_changes_no_more_than_rounding() -> None:
    x = few(24)
    found = guide()
    whole = found.neighbours(x)
    parts = [found.neighbours(part) for part in x.split(5)]
    assert torch.cat([part.rows for part in parts]).equal(whole.rows)
    assert torch.cat([part.weights for part in parts]).equal(whole.weights)


def test_a_batch_is_searched_once() -> None:
    x, found = few(), guide()
    first = found.neighbours(x)
    assert found.neighbours(x.clone()) is first
    list(curve(trained(), x, [1, 2], "knn", signal=SIGNALS, guides={"knn": found}))
    assert found.neighbours(x) is first
    assert found.neighbours(x + 1) is not first


def test_the_same_images_by_other_names_have_other_neighbours() -> None:
    data = digits()
    x, found = data.images[:2].float(), guide(leave_out=True)
    own = found.neighbours(x, data.ids[:2])
    others = found.neighbours(x, ["of", "nobody"])
    assert others.rows[:, 0].tolist() == [0, 1]
    assert own.rows[:, : K - 1].equal(others.rows[:, 1:])


def test_other_images_in_the_same_memory_have_their_own_neighbours() -> None:
    one, other = few(10).split(5)
    found, x = guide(), one.clone()
    assert found.neighbours(x).rows.equal(guide().neighbours(one).rows)
    x.copy_(other)
    assert found.neighbours(x).rows.equal(guide().neighbours(other).rows)


def test_no_image_is_its_own_neighbour_if_it_is_of_the_source() -> None:
    data = digits()
    x, names = data.images[:40].float(), data.ids[:40]
    rows = torch.arange(40)
    own = guide().neighbours(x, names).rows[:, 0]
    assert (own == rows).sum() >= 38
    left = guide(leave_out=True).neighbours(x, names).rows
    assert not (left == rows[:, None]).any()
    wider = guide(k=K + 1).neighbours(x, names).rows
    expected = [[row for row in near if row != i][:K] for i, near in enumerate(wider.tolist())]
    assert left.tolist() == expected
    with pytest.raises(GpsweepError, match="sample_ids: expected names"):
        guide(leave_out=True).neighbours(x)
    strangers = guide(leave_out=True).neighbours(x, [f"other {name}" for name in names])
    assert strangers.rows[:, 0].equal(own)


@pytest.mark.parametrize("at", AT)
def test_iterations_and_layers(at: str) -> None:
    x = few()
    found = dict(
        curve(
            trained(),
            x,
            [0, 0.3, 4],
            "knn",
            layer=["input", "conv1", "hidden"],
            iterations=2,
            guides={"knn": guide(at=at)},
        )
    )
    assert len(found) == 18
    for layer in ("input", "conv1", "hidden"):
        once, twice = (found[Point("knn", layer=layer, iterations=count, eps=4)] for count in (1, 2))
        assert not once.equal(twice)
        assert found[Point("knn", layer=layer, iterations=2, eps=0)].equal(trained()(x))
    if at == "neighbour":
        [(_, far)] = curve(trained(), x, [8], "knn", guides={"knn": guide()})
        twice = found[Point("knn", iterations=2, eps=4)]
        torch.testing.assert_close(twice, far, rtol=1e-4, atol=1e-4)


def test_nothing_stays_on_the_network() -> None:
    list(curve(trained(), few(), [1], "knn", layer=["input", "conv2"], guides={"knn": guide()}))
    for module in trained().modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)
    assert all(parameter.grad is None for parameter in trained().parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"knn\.k=0: expected a whole number from 1 to 40"),
        ({"k": 41}, r"knn\.k=41: expected a whole number from 1 to 40"),
        ({"k": 40, "leave_out": True}, r"knn\.k=40: expected a whole number from 1 to 39"),
        ({"k": True}, r"knn\.k=True"),
        ({"k": 2.5}, r"knn\.k=2\.5"),
        ({"weights": "distances"}, r"knn\.weights=distances: unknown\. Did you mean distance"),
        ({"at": "test"}, r"knn\.at=test: unknown\. Choices: neighbour, input"),
        ({"combine": "sum"}, r"knn\.combine=sum: unknown"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        guide(source=digits(0, 40), **options)


@pytest.mark.parametrize("at", AT)
def test_a_layer_whose_first_dimension_is_not_the_batchs_is_refused(at: str) -> None:
    class Windows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.hidden = torch.nn.Unflatten(1, (4, 48)), torch.nn.Identity()
            self.attend, self.scores = torch.nn.Linear(48, 6), torch.nn.Linear(24, 10)

        def forward(self, x: Tensor) -> Tensor:
            windows = self.attend(self.cut(x.flatten(1) / 255).flatten(0, 1))
            return self.scores(self.hidden(windows.unflatten(0, (-1, 4)).flatten(1)))

    net = Windows().eval().requires_grad_(False)
    own = KnnGuide(Gallery(net, digits(0, 40), features="hidden"), at=at)
    walk = curve(net, few(1), [1], "knn", layer="attend", layer_scale="absolute", guides={"knn": own})
    with pytest.raises(GpsweepError, match=r"layer=attend: gives \(\d+, 6\) .* expects the batch first"):
        list(walk)


def test_other_sizes_are_refused() -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.hidden = torch.nn.Conv2d(3, 6, 3), torch.nn.Flatten()
            self.scores = torch.nn.Linear(6, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(self.hidden(self.conv(x / 255).relu().amax((2, 3))))

    net, x = Pooled().eval().requires_grad_(False), torch.zeros(2, 3, 9, 8)
    for features, at, message in (
        (
            "hidden",
            "neighbour",
            r"knn\.at=neighbour: expected .* \(3, 8, 8\), came \(3, 9, 8\); set data\.size",
        ),
        ("conv", "input", r"data\.size: expected 216 features, as of the training images, came 252"),
    ):
        found = KnnGuide(Gallery(net, digits(0, 40), features=features), at=at)
        with pytest.raises(GpsweepError, match=message):
            list(curve(net, x, [1], "knn", guides={"knn": found}))
    found = KnnGuide(Gallery(net, digits(0, 40), features="hidden"), at="input")
    assert len(list(curve(net, x, [1], "knn", guides={"knn": found}))) == 1


@pytest.mark.gpu
def test_a_gpu_gives_the_same_up_to_rounding() -> None:
    x = few(30)
    [(_, expected)] = curve(trained(), x, [4], "knn", guides={"knn": guide()})
    try:
        net = trained().cuda()
        found = guide()
        [(_, logits)] = curve(net, x.cuda(), [4], "knn", guides={"knn": found})
        assert found.vote(x.cuda()).is_cuda
    finally:
        trained().cpu()
    assert (logits.cpu() - expected).abs().median() < 1e-2
