"""The whole VM looked at: findings of every disk together."""
