"""Sparse coding of patches: K-SVD dictionaries, and orthogonal matching pursuit of two images together.

All arrays are float32, one signal a row; whatever is random has a fixed seed, so that equal images give
equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
Index = NDArray[np.intp]

# Signals coded together: as many as keep the arrays of one round in the processor's cache.
CHUNK = 512
# Below this share of an atom's own length, what is new in it is rounding.
NEW_LEAST = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """N signals as sums of k atoms each: ``atoms`` and ``values`` are Nxk; an unused entry has the value 0."""

    atoms: Index
    values: Single


def pursue(signals: Single, dictionary: Single, most: int, joint: bool = False) -> Code:
    """Orthogonal matching pursuit: ``most`` atoms for each of the Nxd signals.

    ``dictionary`` is Kxd with rows of length 1. ``joint``: signals are Nx2d, a patch of either image, and
    the atoms are 3K: each of the dictionary's in both images (over the root of 2), in the first alone and
    in the second alone. Source: Pati, Rezaiifar, Krishnaprasad, Asilomar 1993; joint: Yang, Li, 2010.
    """
    count, length = signals.shape
    full = _joined(dictionary) if joint else dictionary
    columns = np.ascontiguousarray(dictionary.T)
    half = length // 2
    root = np.float32(np.sqrt(0.5))
    code = Code(np.zeros((count, most), np.intp), np.zeros((count, most), np.float32))
    for start in range(0, count, CHUNK):
        part = signals[start : start + CHUNK]
        rest = part.copy()
        row = np.arange(len(part))
        basis = np.zeros((len(part), most, length), np.float32)
        # atom i = sum over j <= i of mixing[j, i] times basis vector j
        mixing = np.zeros((len(part), most, most), np.float32)
        chosen = code.atoms[start : start + CHUNK]
        for i in range(most):
            if joint:
                first, second = rest[:, :half] @ columns, rest[:, half:] @ columns
                likeness = np.concatenate([(first + second) * root, first, second], axis=1)
            else:
                likeness = rest @ columns
            np.abs(likeness, out=likeness)
            likeness[row[:, None], chosen[:, :i]] = -1.0
            chosen[:, i] = likeness.argmax(axis=1)
            new = full[chosen[:, i]]
            if i:
                shares = np.matmul(basis[:, :i], new[:, :, None])
                mixing[:, :i, i] = shares[:, :, 0]
                new = new - np.matmul(shares.transpose(0, 2, 1), basis[:, :i])[:, 0]
            norm = np.sqrt(np.einsum("nd,nd->n", new, new))
            useful = norm > NEW_LEAST
            new *= np.where(useful, 1.0 / np.where(useful, norm, 1.0), 0.0).astype(np.float32)[:, None]
            basis[:, i] = new
            mixing[:, i, i] = np.where(useful, norm, 0.0)
            rest -= np.einsum("nd,nd->n", rest, new)[:, None] * new
        code.values[start : start + CHUNK] = _values(basis, mixing, part)
    return code


def _joined(dictionary: Single) -> Single:
    zero = np.zeros_like(dictionary)
    both = dictionary * np.float32(np.sqrt(0.5))
    joined: Single = np.vstack([np.hstack([both, both]), np.hstack([dictionary, zero]), np.hstack([zero, dictionary])])
    return joined


def _values(basis: Single, mixing: Single, signals: Single) -> Single:
    """The atoms' values from the basis made of them, last to first; 0 for atoms that brought nothing new."""
    shares = np.matmul(basis, signals[:, :, None])[:, :, 0]
    values: Single = np.zeros(shares.shape, np.float32)
    for i in range(shares.shape[1] - 1, -1, -1):
        scale = mixing[:, i, i]
        left = shares[:, i] - np.einsum("nj,nj->n", mixing[:, i, i + 1 :], values[:, i + 1 :])
        values[:, i] = np.where(scale > 0, left / np.where(scale > 0, scale, 1.0), 0.0)
    return values


def k_svd(signals: Single, dictionary: Single, most: int, rounds: int) -> Single:
    """Improves a Kxd dictionary for Nxd signals coded with ``most`` atoms each.

    Each round codes all signals and then renews one atom after the other with the values that use it, by
    one step of the power method (approximate K-SVD). An atom that nothing uses stays. Source: Aharon, Elad,
    Bruckstein 2006; Rubinstein, Zibulevsky, Elad, Technion CS-2008-08.
    """
    dictionary = dictionary.copy()
    for _ in range(rounds):
        code = pursue(signals, dictionary, most)
        rest = signals - np.einsum("nk,nkd->nd", code.values, dictionary[code.atoms])
        order = np.argsort(code.atoms, axis=None, kind="stable")
        borders = np.searchsorted(code.atoms.ravel()[order], np.arange(len(dictionary) + 1))
        for atom in range(len(dictionary)):
            entries = order[borders[atom] : borders[atom + 1]]
            users = entries // most
            values = code.values.ravel()[entries]
            if not np.any(values):
                continue
            with_atom = rest[users] + values[:, None] * dictionary[atom]
            renewed = values @ with_atom
            length = float(np.linalg.norm(renewed))
            if length == 0.0:
                continue
            dictionary[atom] = renewed / np.float32(length)
            values = with_atom @ dictionary[atom]
            rest[users] = with_atom - values[:, None] * dictionary[atom]
    return dictionary
