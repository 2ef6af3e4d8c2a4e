"""What vLLM refuses before it starts, said with the name of the setting that it is about."""

import re

from job.engine.postmortem import plain
from job.engine.tokenizer import UNTRUSTED
from job.errors import Problem
from job.settings import EngineSettings, Settings

# How vLLM's messages speak of the settings; the first that is found is named.
_NAMED_BY = {
    "MAX_MODEL_LEN": r"max_model_len",
    "QUANTIZATION": r"quantization",
    "KV_CACHE_DTYPE": r"\b(kv_)?cache_dtype\b",
    "TENSOR_PARALLEL_SIZE": r"tensor.parallel.size|world size",
    "DTYPE": r"\bdtype\b",
}


def named(error: Exception, settings: Settings) -> Problem:
    """The setting that vLLM's message is about, as far as it can be told."""
    message = _said(error)
    if settings.engine.reproducibility == "bitwise" and re.search(r"batch.invarian", message, re.IGNORECASE):
        return Problem("REPRODUCIBILITY", "bitwise", f"vLLM cannot do that for this model or with these settings: {message}")
    if variable := _variable(message, settings.engine):
        value = getattr(settings.engine, variable.lower())
        return Problem(variable, str(value), f"does not fit the model or this machine: {message}")
    if not settings.model.trust_remote_code and "trust_remote_code" in message:
        return Problem("MODEL_ID", settings.model.model_id, UNTRUSTED)
    named = any(re.search(rf"\b{re.escape(name)}\b", message) for name in settings.engine.engine_args)
    if named or isinstance(error, TypeError):
        return Problem("ENGINE_ARGS", str(settings.engine.engine_args), f"vLLM does not take it: {message}")
    return Problem("MODEL_ID", settings.model.model_id, f"vLLM cannot run it with these settings: {message}")


def _variable(message: str, engine: EngineSettings) -> str | None:
    """The setting that vLLM's words are about, None where they name none."""
    found = (variable for variable, words in _NAMED_BY.items() if re.search(words, message, re.IGNORECASE))
    by_its_value = engine.quantization and engine.quantization.lower() in message.lower()
    return next(found, "QUANTIZATION" if by_its_value else None)


def _said(error: Exception) -> str:
    """What vLLM says, without what pydantic puts around it."""
    return re.sub(r"^\d+ validation errors? for \w+ (Value error, )?| \[type=\w+, input_value=.*", "", plain(error))
