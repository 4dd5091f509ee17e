"""SinGAN: a generator of one picture, a pyramid of small networks that see patches of it (Rott Shaham et al. 2019)."""
