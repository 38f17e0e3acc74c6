"""The state of a run: capture it in a checkpoint, restore it, and agree on when to stop."""
