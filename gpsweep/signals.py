"""Error signals at the logits: what is pulled back to the layer that is perturbed (paper, Appendix 7).

A signal is a pure function ``(y, ℓ) -> s`` in :data:`SIGNALS`, of softmax output and label distribution, both
``(N, C, …)``, to an ascent direction at the logits of the same shape. Where ℓ is 0 for all classes, so is s.

The paper's Eq. 1 moves along ∇J of a loss, and says that ε > 0 corrects. Its appendix derives what is pulled
back as an ascent towards the label, as all signals here are; with J the cross-entropy, Eq. 1 by its letter
would lead the opposite way.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Signal = Callable[[Tensor, Tensor], Tensor]


def eq5(y: Tensor, label: Tensor) -> Tensor:
    """Return (ℓ·y)(ℓ − y), the paper's signal (Eq. 5; Eq. 4 for a one-hot ℓ).

    It is ∂(ℓ·y)/∂z for a one-hot ℓ alone, though the paper states it for any; see :func:`likelihood`.

    Args:
        y: softmax ``(N, C, …)``, summing to 1 over the classes.
        label: ℓ ``(N, C, …)``, summing to 1 over the classes, or 0 at all of them: no label.

    Returns:
        ``(N, C, …)``, a direction of ascent at the logits; 0 where there is no label.
    """
    return (label - y).mul_((label * y).sum(1, keepdim=True))


def cross_entropy(y: Tensor, label: Tensor) -> Tensor:
    """Return ℓ − (Σℓ)y = −∂CE(ℓ, y)/∂z; Σℓ is 1 for a distribution and 0 where there is no label.

    Args:
        y: softmax ``(N, C, …)``, summing to 1 over the classes.
        label: ℓ ``(N, C, …)``, summing to 1 over the classes, or 0 at all of them: no label.

    Returns:
        ``(N, C, …)``, a direction of ascent at the logits; 0 where there is no label.
    """
    return label - label.sum(1, keepdim=True) * y


def likelihood(y: Tensor, label: Tensor) -> Tensor:
    """Return y ⊙ (ℓ − ℓ·y) = ∂(ℓ·y)/∂z, which equals :func:`eq5` for one-hot ℓ.

    Args:
        y: softmax ``(N, C, …)``, summing to 1 over the classes.
        label: ℓ ``(N, C, …)``, summing to 1 over the classes, or 0 at all of them: no label.

    Returns:
        ``(N, C, …)``, a direction of ascent at the logits; 0 where there is no label or ℓ is uniform.
    """
    # As Σy = 1, a constant taken off ℓ changes nothing, but makes the 0 of a uniform ℓ exact: the sign step
    # would blow a rounding error up to a full ε.
    excess = label - label.amin(1, keepdim=True)
    return y * (excess - (excess * y).sum(1, keepdim=True))


SIGNALS: dict[str, Signal] = {"eq5": eq5, "cross_entropy": cross_entropy, "likelihood": likelihood}
