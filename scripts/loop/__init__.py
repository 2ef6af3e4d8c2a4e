"""`make generate-all`: one job for each model of MODEL_IDS, for a host that has Python and perhaps nothing else.

- settings: the environment -> which models, how many at once, by which runner
- gpus: who gets which GPUs, and how much of their memory
- runners: a container or a process for a model
- children, bound: a started command, its log, and that it does not outlive the loop
- schedule: who runs when, and whose weights are downloaded meanwhile
- summary: what came of it, and in a table
"""
