"""The operations of a composition plan; related operations share a file."""
