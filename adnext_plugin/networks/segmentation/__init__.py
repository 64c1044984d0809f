"""Networks that give every voxel a class: an encoder of `networks.families`, and a decoder with skips."""
