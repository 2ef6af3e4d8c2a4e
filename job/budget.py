"""What a run cost: GPU seconds of all processes that loaded the model for it, tokens for each of them, and money. Pure.

A process's seconds count from its start, as its GPUs are held from then on, to where its results are written or it ends.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_HOUR = 3600


class Spent(BaseModel):
    """What one process spent.

    seconds: as far as it noted them; gpus: that it held, 0 on a CPU; earlier_rows: rows that had their answers before it.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    seconds: float = Field(ge=0)
    gpus: int = Field(ge=0)
    earlier_rows: int = Field(ge=0)


class Budget(BaseModel):
    """What run.json has of it.

    processes: that loaded the model; complete: whether all of them are known, else the figures are too small;
    tokens_per_gpu_second: generated ones, None without a GPU or where processes are not known; gpu_price_per_hour, cost: None
    where no price was given.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")

    processes: int = Field(ge=1)
    complete: bool
    seconds: float = Field(ge=0)
    gpu_seconds: float = Field(ge=0)
    tokens_per_gpu_second: float | None = None
    gpu_price_per_hour: float | None = None
    cost: float | None = None

    @classmethod
    def of(cls, spent: Sequence[Spent], completion_tokens: int, price: float | None) -> Self | None:
        """None where nobody noted anything."""
        if not spent:
            return None
        known = cls(
            processes=len(spent),
            complete=spent[0].earlier_rows == 0,
            seconds=round(sum(each.seconds for each in spent), 3),
            gpu_seconds=round(sum(each.seconds * each.gpus for each in spent), 3),
        )
        return known._with_tokens(completion_tokens).priced(price)

    @classmethod
    def joined(cls, parts: Sequence[Self | None], completion_tokens: int) -> Self | None:
        """Of a whole run, from those of its shards; None where no shard has one."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        prices, costs = {part.gpu_price_per_hour for part in known}, [part.cost for part in known]
        whole = cls(
            processes=sum(part.processes for part in known),
            complete=len(known) == len(parts) and all(part.complete for part in known),
            seconds=round(sum(part.seconds for part in known), 3),
            gpu_seconds=round(sum(part.gpu_seconds for part in known), 3),
            gpu_price_per_hour=prices.pop() if len(prices) == 1 else None,
            cost=None if None in costs else round(sum(cost for cost in costs if cost is not None), 4),
        )
        return whole._with_tokens(completion_tokens)

    def priced(self, price: float | None) -> Self:
        """The same at this price for each GPU and hour; as it is, where there is none or no GPU."""
        if price is None or not self.gpu_seconds:
            return self
        return self.model_copy(update={"gpu_price_per_hour": price, "cost": round(self.gpu_seconds / _HOUR * price, 4)})

    def _with_tokens(self, completion_tokens: int) -> Self:
        known = self.complete and self.gpu_seconds
        return self.model_copy(
            update={"tokens_per_gpu_second": round(completion_tokens / self.gpu_seconds, 1) if known else None}
        )


def of_manifest(manifest: Mapping[str, Any]) -> Budget | None:
    """What a manifest, as it was read, has of it; None where that is nothing, or no such thing."""
    try:
        return Budget.model_validate(manifest.get("budget"))
    except ValidationError:
        return None
