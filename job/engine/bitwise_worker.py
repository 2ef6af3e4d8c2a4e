"""What vLLM imports into each of its workers on a GPU for REPRODUCIBILITY=bitwise, before they warm up.

Nothing else may import this module: being imported is what it does.
"""

from vllm.v1.sample.ops import topk_topp_sampler

from job.engine.adapter import AdapterWorker
from job.engine.bitwise_attention import use_wide_tiles
from job.engine.bitwise_matmul import use_tiles
from job.engine.bitwise_sampling import apply_top_k_top_p
from job.engine.startup import HOPPER, gpu_capability

topk_topp_sampler.apply_top_k_top_p_triton = apply_top_k_top_p
if gpu_capability() == HOPPER:  # where they were measured
    use_tiles()
    use_wide_tiles()


class BitwiseWorker(AdapterWorker):
    """Added to the worker; also all that an adapter needs, since vLLM takes one class."""

    def samples_bitwise(self) -> bool:
        """Whether this worker samples in the way of this job."""
        return topk_topp_sampler.apply_top_k_top_p_triton is apply_top_k_top_p
