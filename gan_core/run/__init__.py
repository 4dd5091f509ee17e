"""A run: one stage over one shard, and the job that says which shards go through which stages."""
