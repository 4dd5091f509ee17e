"""Compositions: new images from the features of several images, without training (SOAT, Chong et al. 2021)."""
