"""The road from images to a stream on features: image sets, frozen backbones, and their features on disk."""
