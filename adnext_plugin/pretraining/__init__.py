"""What encoders are pre-trained to do: the protocol of objectives, and ours."""
