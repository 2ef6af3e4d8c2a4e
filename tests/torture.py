"""`python -m tests.torture --kills 100 --seed 1`: disturb the job at bad moments, again and again, and count.

Exits with 1 where a law was broken; see tests/integration/kills.py for what is held against what.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.kills import ALL_MOMENTS, ECHO_ENGINE, MOMENTS, VLLM_MOMENTS, Campaign, vllm_engine
from tests.support import ROOT

MODEL = ROOT / ".cache" / "models" / "SmolLM2-135M-Instruct"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=100, help="how many processes are to be ended (default: %(default)s)")
    parser.add_argument(
        "--everything",
        action="store_true",
        help="beside SIGKILL: SIGTERM, SIGINT, full disks and twins; needs the right to mount a tmpfs",
    )
    parser.add_argument("--engine", choices=["echo", "vllm"], default="echo", help="the real one takes half a minute a start")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=600, help="rows of the dataset (default: %(default)s)")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 3], help="NUM_SAMPLES of the chains, in turn")
    chosen = parser.parse_args()
    moments = VLLM_MOMENTS if chosen.engine == "vllm" else ALL_MOMENTS if chosen.everything else MOMENTS
    engine = vllm_engine(MODEL) if chosen.engine == "vllm" else ECHO_ENGINE
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        campaign = Campaign(Path(folder), rows=chosen.rows, seed=chosen.seed, moments=moments, engine=engine)
        report = campaign.run(kills=chosen.kills, samples=chosen.samples)
    sys.stdout.write("\n".join([*report.lines(), f"seconds                          {time.monotonic() - started:.0f}", ""]))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
