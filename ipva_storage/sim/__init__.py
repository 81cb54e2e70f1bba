"""Power cuts and what they leave: the crash explorer."""
