"""What a number says of predictions."""
