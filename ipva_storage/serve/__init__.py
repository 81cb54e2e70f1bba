"""The appliance's files over HTTP, read-only."""
