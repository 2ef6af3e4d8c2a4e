"""Fuzzing: settings, templates, datasets and run folders that nobody would think of, and what must hold whatever they are.

- case: what a case is, and how it is laid out in a folder
- environments, templates, datasets, run_folders: hypothesis strategies, one module an area; damage: what they share
- worker: runs cases with `job.main.main`, thousands in one process, which is replaced when it dies
- job: the same in a process of its own
- verdict: what every case must show
- campaign: all of it, counted, each violation reduced to the smallest case that shows it

Why no atheris: it is led by the coverage of instrumented code, and what takes these inputs apart is C, C++ and Rust (pydantic,
pyarrow, SQLite, pandas' and Python's JSON readers), which it does not see. Valid inputs with a few mistakes in them, as these
strategies make them, get further into the job than bytes that find their way by coverage.
"""
