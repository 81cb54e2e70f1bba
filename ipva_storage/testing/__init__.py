"""Strategies, models, state machines and contracts, for our tests and other people's."""
