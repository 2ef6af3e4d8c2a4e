"""The container image that the job runs in, by the variables that its Dockerfile sets. Not part of a run's identity: an answer
depends on the versions in an image, which are, and not on who built it from what commit."""

from collections.abc import Mapping

VARIABLES = {"variant": "ANSWERS_IMAGE_VARIANT", "base": "ANSWERS_IMAGE_BASE", "commit": "ANSWERS_IMAGE_COMMIT"}


def described(environ: Mapping[str, str]) -> dict[str, str] | None:
    """What is known of the image; None outside of one."""
    return {fact: environ[name] for fact, name in VARIABLES.items() if environ.get(name)} or None
