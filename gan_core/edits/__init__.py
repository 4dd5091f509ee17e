"""What an entry of the edit plan can be, one file a kind."""
