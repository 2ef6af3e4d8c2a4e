"""A client process: `datasets` reads the address of the Hub when it is imported. Prints what it saw as JSON.

python -m tests.hub_server.datasets_client NAMESPACE/NAME
"""

import json
import sys

from datasets import Dataset, load_dataset

ROWS = [{"instruction": f"instruction {number}", "answers": f"answer {number}" * 20} for number in range(200)]


def main(repo_id: str) -> None:
    """Push some rows, and read them again in both ways at the commit that this made."""
    pushed = Dataset.from_list(ROWS).push_to_hub(repo_id, split="test", private=True, num_shards=2)
    loaded = load_dataset(repo_id, split="test", revision=pushed.oid)
    streamed = load_dataset(repo_id, split="test", revision=pushed.oid, streaming=True)
    print(json.dumps({"commit": pushed.oid, "loaded": list(loaded), "streamed": list(streamed)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
