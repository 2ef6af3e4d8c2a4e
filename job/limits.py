"""What the answers of a run do not tell: sentences for people who read its card, from its manifest. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from job.lengths import of_answers


def limits(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Each is true of this run; plain words, without Markdown."""
    facts, counts = manifest["identity"]["facts"], manifest["counts"]
    yield _draws(facts["sampling"])
    answers = of_answers(counts)
    if answers.runaways:
        yield (
            f"{answers.runaways} of {answers.answers} answers have no end of their own: they were cut or ended because they "
            f"looped (finish_reason length, repetition). Do not judge their last words, and do not take them for short answers."
        )
    if counts["failed_rows"]:
        yield (
            f"{counts['failed_rows']} of {counts['rows']} rows have no answer. An average over the others is no average over "
            f"the dataset."
        )
    if (most := manifest.get("max_rows")) and counts["rows"] >= most:  # else the split has fewer, and all were answered
        yield f"Only the first rows of the split were asked for (MAX_ROWS={most}): they are no random sample of it."
    yield (
        "The answers are as the model gave them: nobody has judged, corrected or filtered them, and none is known to be right, "
        "harmless or free of what the model was trained on."
    )
    yield (
        "They are answers to the texts in the column prompt. Another prompt, chat template or system message would get others, "
        "and models compare fairly only where each got the prompt that it was trained for."
    )
    yield _repeated(facts["reproducibility"])
    yield (
        "Speed and seconds are those of this machine and this many rows: a start and the longest answers weigh more in a short "
        "run."
    )


def _draws(sampling: Mapping[str, Any]) -> str:
    if sampling["temperature"] == 0:
        return (
            "Each answer is the likeliest token after token (temperature 0): it does not show what else the model would say, "
            "nor how sure it is."
        )
    drawn = {1: "once"}.get(sampling["num_samples"], f"{sampling['num_samples']} times")
    return (
        f"Each row was answered {drawn}, by drawing at random: another SEED gives other answers, and a small difference "
        f"between two models may be chance."
    )


def _repeated(level: str) -> str:
    if level == "bitwise":
        return "The same bytes are promised on the same hardware with the same versions, and on no other."
    return (
        "A repeated run agrees in most answers and not in all: which rows are answered at the same time may change a rounding, "
        "and with it a word."
    )
