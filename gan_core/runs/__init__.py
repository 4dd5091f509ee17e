"""A run: one stage over one shard, and the run that says which shards go through which stages."""
