"""What a user would build instead, to measure beside DPP."""
