"""Files that others have published: their layouts, and where they can be fetched."""
