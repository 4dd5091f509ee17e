"""Shards, rows, receipts and the images in them."""
