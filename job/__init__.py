"""Generate one language model's answers to a dataset of instructions: `python -m job`, set up by environment variables."""

__version__ = "0.1.0"
