"""Compositions: new pictures from the features of several, with trained generators alone (SOAT, Chong et al. 2021)."""
