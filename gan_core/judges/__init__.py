"""Networks that measure pictures: identity, attributes, perceptual distance, features, segmentation."""
