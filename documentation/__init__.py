"""The pages of documentation: those that code writes, their links, and what the site adds to them."""
