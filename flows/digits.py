"""Write scikit-learn's handwritten digits to ``data/digits.npz``: ``python -m flows.digits``."""

from pathlib import Path

import numpy as np

TARGET = Path("data/digits.npz")


def main() -> None:
    """Write ``images [1797, 8, 8]`` uint8 from 0 to 16 and ``labels [1797]`` (UCI, Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(TARGET, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))


if __name__ == "__main__":
    main()
