"""Top-k and top-p whose outcome for a row depends on that row's logits alone: a Triton kernel, imported in vLLM's workers only.

Sums of floats depend on their order, and so on how a kernel divides its work; those of integers do not. So a token's weight is
exp(logit - largest logit) as an integer, in units of 2**-40. What is kept are the tokens from a threshold upwards that is found
by bisection: the largest one whose tokens have at least the share top_p of all weight. Tokens of the same logit are kept
together. vLLM's own kernels search with sums of floats, and stop where they are near enough.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803 (Triton's kernels have no types, and their constants are written large)

import torch
from vllm.triton_utils import tl, triton

_BLOCK = 4096
_WARPS = 32  # the fastest of 8, 16 and 32, for 1 to 334 rows: benchmarks/RESULTS.md, section sampling


@triton.jit
def _ordered(logits):
    """The bits of floats as integers in the same order."""
    bits = logits.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)


@triton.jit
def _sum_from(threshold, start, vocabulary, largest, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """How many tokens there are from a threshold upwards, or what they weigh."""
    total = tl.zeros([BLOCK], tl.int64)
    for first in range(0, vocabulary, BLOCK):
        place = first + tl.arange(0, BLOCK)
        there = place < vocabulary
        logits = tl.load(start + place, mask=there, other=-float("inf"))
        kept = there & (_ordered(logits) >= threshold)
        if COUNT:
            total += kept.to(tl.int64)
        else:
            total += tl.where(kept, (tl.exp(logits - largest) * 1099511627776.0).to(tl.int64), 0)
    return tl.sum(total).to(tl.float64)


@triton.jit
def _threshold(wanted, lowest, highest, start, vocabulary, largest, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The largest threshold from which on there is as much as is wanted."""
    low, high = lowest, highest
    while low < high:
        middle = low + (high - low + 1) // 2
        if _sum_from(middle, start, vocabulary, largest, COUNT, BLOCK) >= wanted:
            low = middle
        else:
            high = middle - 1
    return low


@triton.jit
def _mask_kernel(
    LOGITS,
    STRIDE,
    K,
    P,
    VOCABULARY,
    HAS_K: tl.constexpr,
    HAS_P: tl.constexpr,
    MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row a program."""
    row = tl.program_id(0).to(tl.int64)
    start = LOGITS + row * STRIDE

    largest = -float("inf")
    for first in range(0, VOCABULARY, BLOCK):
        place = first + tl.arange(0, BLOCK)
        largest = tl.maximum(largest, tl.max(tl.load(start + place, mask=place < VOCABULARY, other=-float("inf"))))
    highest = tl.max(_ordered(tl.zeros([BLOCK], tl.float32) + largest))
    lowest = tl.max(_ordered(tl.zeros([BLOCK], tl.float32) - float("inf")))

    if HAS_K:
        k = tl.load(K + row)
        if k < VOCABULARY:
            lowest = _threshold(k.to(tl.float64), lowest, highest, start, VOCABULARY, largest, COUNT=True, BLOCK=BLOCK)
    if HAS_P:
        p = tl.load(P + row)
        if p < 1.0:
            wanted = _sum_from(lowest, start, VOCABULARY, largest, COUNT=False, BLOCK=BLOCK) * p.to(tl.float64)
            lowest = _threshold(wanted, lowest, highest, start, VOCABULARY, largest, COUNT=False, BLOCK=BLOCK)

    for first in range(0, VOCABULARY, BLOCK):
        place = first + tl.arange(0, BLOCK)
        logits = tl.load(start + place, mask=place < VOCABULARY, other=-float("inf"))
        tl.store(start + place, tl.where(_ordered(logits) >= lowest, logits, MASK), mask=place < VOCABULARY)


def apply_top_k_top_p(
    logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None, mask_value: float = -float("inf")
) -> torch.Tensor:
    """In the place of vLLM's `apply_top_k_top_p_triton`, called in the same way.

    logits: float32 [rows, vocabulary], changed in place where their last dimension is contiguous; k: integers [rows], p: floats
    [rows], None where no row has one.
    """
    rows, vocabulary = logits.shape
    if rows == 0 or (k is None and p is None):
        return logits
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    _mask_kernel[(rows,)](
        logits,
        logits.stride(0),
        logits if k is None else k.to(torch.int32),
        logits if p is None else p.to(torch.float32),
        vocabulary,
        HAS_K=k is not None,
        HAS_P=p is not None,
        MASK=mask_value,
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return logits
