"""Image-to-image translation by an encoder and a frozen generator: pSp's tasks (Richardson et al. 2021, section 4)."""
