"""Runs: the stages, running one stage over one shard, and which shards go through which stages."""
