"""Files and what is in them: URLs, atomic writes, safe decoding of images, shards and their receipts."""
