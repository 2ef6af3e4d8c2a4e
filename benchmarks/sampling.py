"""Top-p of REPRODUCIBILITY=bitwise against vLLM's own, on a GPU: is it right, does it depend on the batch, what does it take?

Logits are random, scaled as a model's are, in float32 and rounded to bfloat16, as most models give them, so that many are
equal. Right: the tokens that are kept are those of a reference in float64, which sorts. Depends on the batch: a row's outcome
in batches of other sizes is compared with that of the row alone.

Run it from the root of the project on a GPU host: `python -m benchmarks.sampling`. Exit code 1 where a row is wrong or depends.
"""

import sys
import time
from collections.abc import Callable

import torch
from vllm.v1.sample.ops.topk_topp_triton import apply_top_k_top_p_triton

from job.engine.bitwise_sampling import apply_top_k_top_p

TOP_P = 0.95
SIZES = (1, 2, 7, 40, 64, 65, 132, 133, 334)
VOCABULARIES = (49_152, 128_256)
REPETITIONS = 20
NEAR = 1e-6  # a reference in floats may keep one token more or less, of this share of all weight

Apply = Callable[..., torch.Tensor]


def logits_of(rows: int, vocabulary: int, *, rounded: bool) -> torch.Tensor:
    torch.manual_seed(0)
    logits = torch.randn(rows, vocabulary, device="cuda") * 4
    return logits.bfloat16().float() if rounded else logits


def wrong_rows(apply: Apply, logits: torch.Tensor) -> int:
    """Rows whose kept tokens have another share than the smallest one of whole logits that is enough."""
    kept = apply(logits.clone(), None, torch.full((len(logits),), TOP_P, device="cuda")).isfinite()
    weights = (logits.double() - logits.double().amax(1, keepdim=True)).exp()
    order = logits.sort(1, descending=True).indices
    before = weights.gather(1, order).cumsum(1) - weights.gather(1, order)
    enough = (before < TOP_P * weights.sum(1, keepdim=True)).sum(1, keepdim=True)
    threshold = logits.gather(1, order.gather(1, enough - 1))
    differing = kept != (logits >= threshold)
    return int(((weights * differing).sum(1) > NEAR * weights.sum(1)).sum())


def dependent_rows(apply: Apply, logits: torch.Tensor) -> int:
    """Rows whose outcome in a batch of any size is not that of the row alone."""
    top_p = torch.full((len(logits),), TOP_P, device="cuda")
    alone = torch.cat([apply(logits[row : row + 1].clone(), None, top_p[:1]) for row in range(len(logits))])
    return max(int((apply(logits[:size].clone(), None, top_p[:size]) != alone[:size]).any(1).sum()) for size in SIZES)


def milliseconds(apply: Apply, logits: torch.Tensor) -> float:
    top_p = torch.full((len(logits),), TOP_P, device="cuda")
    copies = [logits.clone() for _ in range(REPETITIONS + 1)]
    apply(copies[0], None, top_p)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for copy in copies[1:]:
        apply(copy, None, top_p)
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / REPETITIONS * 1000


def main() -> int:
    good = True
    kernels: dict[str, Apply] = {"bitwise": apply_top_k_top_p, "vLLM's": apply_top_k_top_p_triton}
    print("| kernel | vocabulary | logits | rows wrong | rows that depend on the batch | ms for 1 | 40 | 334 rows |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for vocabulary in VOCABULARIES:
        for rounded in (False, True):
            logits = logits_of(max(SIZES), vocabulary, rounded=rounded)
            for name, apply in kernels.items():
                wrong, dependent = wrong_rows(apply, logits), dependent_rows(apply, logits)
                times = [f"{milliseconds(apply, logits[:rows]):.2f}" for rows in (1, 40, 334)]
                kind = "bfloat16" if rounded else "float32"
                print(f"| {name} | {vocabulary:,} | {kind} | {wrong} | {dependent} | {' | '.join(times)} |", flush=True)
                good &= name != "bitwise" or wrong == dependent == 0
    print(f"\nbitwise: 0 rows wrong, 0 that depend on the batch: {'kept' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
