"""Generated from protos/ by `make protos`, and nothing else."""
