"""Why the engine died, in plain words, and which settings to change.

vLLM tells its caller only that a process failed; the reason is in what that process logged last, or in how it ended. So each
process of the engine leaves its errors in a file (the handler is named in logging.json), and the caller reads them here.
"""

import json
import logging
import os
import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LAST_WORDS_VARIABLE = "JOB_ENGINE_LAST_WORDS"
_CGROUP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")
_SHOWN_CHARACTERS = 600
_GOES_ON = "The same command goes on."

_SMALLER = "choose a QUANTIZATION, or spread the model with TENSOR_PARALLEL_SIZE"
_MORE_MEMORY = f"Give the job more memory, lower KV_CACHE_MEMORY_BYTES or MAX_MODEL_LEN, {_SMALLER}."
# What vLLM, torch and the operating system say; the first that is found anywhere counts.
_REASONS: Sequence[tuple[str, str, str]] = (
    (
        r"Free memory on device .* is less than desired",
        "the GPU has less free memory than GPU_MEMORY_UTILIZATION asks for",
        "Stop what else uses the GPU, or lower GPU_MEMORY_UTILIZATION.",
    ),
    (
        r"No available memory for the cache blocks|larger than the available KV cache memory",
        "no room was left for the KV cache",
        f"Raise GPU_MEMORY_UTILIZATION or KV_CACHE_MEMORY_BYTES, lower MAX_MODEL_LEN, {_SMALLER}.",
    ),
    (
        r"on kv cache allocation is less than requested memory",
        "the KV cache has no room in the memory of this machine",
        "Lower KV_CACHE_MEMORY_BYTES, or give the job more memory.",
    ),
    (
        r"please try cudagraph_mode=PIECEWISE",
        "this model's attention cannot be part of a CUDA graph",
        "Set COMPILE_MODEL=true, which makes graphs of what lies between, or ENFORCE_EAGER=true.",
    ),
    (
        r"(CUDA|HIP|GPU).*out of memory|OutOfMemoryError",
        "the GPU's memory ran out",
        f"Lower GPU_MEMORY_UTILIZATION, KV_CACHE_MEMORY_BYTES or MAX_MODEL_LEN, {_SMALLER}.",
    ),
    (
        r"can't allocate memory|Cannot allocate memory|MemoryError|std::bad_alloc",
        "the memory of this machine ran out",
        _MORE_MEMORY,
    ),
    (
        r"Failed to find a kernel that can implement",
        "this device has no kernel for the model's quantisation",
        "Choose another QUANTIZATION, or a model that is quantised in another way.",
    ),
    (
        r"FP8 KV cache .*requires|kv_cache_dtype not supported",
        "this device cannot work with a KV cache in that number format",
        "Choose another KV_CACHE_DTYPE.",
    ),
    (
        r"No space left on device",
        "a disk or the shared memory is full",
        "Make room in TMPDIR, in the caches and in /dev/shm (docker run --shm-size, a memory volume of the pod).",
    ),
)


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of the engine's end.

    exit_codes: of its processes that have ended, by name, negative for a signal; last_words: the errors that they logged, in
    order; oom_kills: processes that the kernel ended meanwhile because memory ran out.
    """

    exit_codes: Mapping[str, int]
    last_words: Sequence[str]
    oom_kills: int


def explained(death: Death, error: BaseException) -> str:
    """A sentence on the cause, and one on what to do. error: what vLLM told its caller."""
    words = " | ".join(death.last_words)
    for pattern, cause, remedy in _REASONS:
        if found := re.search(pattern, words or str(error)):
            said = next((line for line in death.last_words if found.group() in line), str(error))
            return f"{cause} ({_short(said)}). {remedy} {_GOES_ON}"
    if death.oom_kills and (not death.exit_codes or -signal.SIGKILL in death.exit_codes.values()):
        return f"the kernel killed a process because the memory of this machine or container ran out. {_MORE_MEMORY} {_GOES_ON}"
    for name, code in death.exit_codes.items():
        if code < 0 and code != -signal.SIGTERM:  # which is how the others are ended then
            return f"{_signalled(name, -code)} {_GOES_ON}"
    # The first one to fail knows why; the others only that it did.
    said = death.last_words[0] if death.last_words else plain(error)
    return f"{_short(said)}. {_GOES_ON} The log lines of vLLM's processes above say more."


def _signalled(name: str, number: int) -> str:
    if number == signal.SIGKILL:
        return f"{name} was killed with SIGKILL, by a person or another program: not for want of memory on this machine."
    if number == signal.SIGBUS:
        return f"{name} ended with SIGBUS: /dev/shm is full. Enlarge it (docker run --shm-size, a memory volume of the pod)."
    return f"{name} crashed with {signal.Signals(number).name}. The log lines of vLLM's processes above may say why."


def plain(error: BaseException) -> str:
    """What an error says, in one line that can be shown."""
    return _in_one_line(str(error)) or type(error).__name__


def _short(text: str) -> str:
    """To be followed by a full stop."""
    return _in_one_line(text).rstrip(" .")


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_CHARACTERS]


def oom_kills() -> int:
    """How many processes of this container the kernel has ended because memory ran out; of the machine where there is none."""
    try:
        group = re.search(r"^0::(.*)$", _CGROUP.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        group = None
    events = _CGROUPS / group.group(1).lstrip("/") / "memory.events" if group else _VMSTAT
    return _oom_kills(events if events.exists() else _VMSTAT)  # a machine's own group has none


def _oom_kills(path: Path) -> int:
    """0 where the kernel does not say."""
    try:
        found = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def failed_processes(text: str) -> dict[str, int]:
    """The exit codes in vLLM's own words: "Failed core proc(s): {'EngineCore': -9}"."""
    return {name: int(code) for name, code in re.findall(r"'(\w+)': (-?\d+)", text.partition("Failed core proc(s)")[2])}


class Watch:
    """Looks at an engine from before it starts, so that its death can be explained."""

    def __init__(self) -> None:
        self._oom_kills = oom_kills()

    def explain(self, error: BaseException, exit_codes: Mapping[str, int]) -> str:
        """error: what vLLM told its caller; exit_codes: of its processes that have ended, by name."""
        path = os.environ.get(LAST_WORDS_VARIABLE)
        words = last_words(Path(path)) if path else []
        return explained(Death(exit_codes or failed_processes(str(error)), words, oom_kills() - self._oom_kills), error)


class LastWords(logging.Handler):
    """Appends each error of a process of the engine to the file of the last words."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        try:
            text = f"{type(error).__name__}: {error}" if error else record.getMessage()
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"\n{json.dumps(text)}\n")  # the last line may be a half one
        except Exception:  # noqa: BLE001 (vLLM must not fail for what it logs)
            self.handleError(record)


def last_words_handler() -> logging.Handler:
    """The handler for vLLM's loggers, in whichever process: named in logging.json."""
    path = os.environ.get(LAST_WORDS_VARIABLE)
    return LastWords(Path(path)) if path else logging.NullHandler()


def last_words(path: Path) -> list[str]:
    """What the engine's processes left, in order; nothing where there is no file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    words = []
    for line in lines:
        with suppress(ValueError):  # a killed process may leave half a line
            words.append(str(json.loads(line)))
    return words
