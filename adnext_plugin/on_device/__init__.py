"""Changes of images where the images are: on a GPU, without a copy to and fro."""
