"""Who calls, and what they may: deny by default."""
